/* The plugin's operations as v12 of the ABI has them; versions.c fits them to the older ones. */
#ifndef WEFT_NCCL_NET_PLUGIN_H
#define WEFT_NCCL_NET_PLUGIN_H

#include "nccl_net.h"

nccl_init_v11 net_plugin_init;
nccl_devices net_plugin_devices;
nccl_result net_plugin_properties(int device, nccl_net_properties_v12 *properties);
nccl_listen_v11 net_plugin_listen;
nccl_connect_v11 net_plugin_connect;
nccl_accept_v7 net_plugin_accept;
nccl_register_v8 net_plugin_register;
nccl_register_dmabuf net_plugin_register_dmabuf;
nccl_deregister net_plugin_deregister;
nccl_send_v10 net_plugin_send;
nccl_receive_v10 net_plugin_receive;
nccl_flush net_plugin_flush;
nccl_test net_plugin_test;
nccl_close net_plugin_close_comm, net_plugin_close_listener;
nccl_get_device_memory net_plugin_device_memory;
nccl_receive_consumed net_plugin_receive_consumed;
nccl_make_vdevice_v12 net_plugin_make_vdevice;
nccl_finalize net_plugin_finalize;
nccl_set_attribute net_plugin_set_attribute;

#endif
