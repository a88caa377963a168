/* A libibverbs.so.1 with two fake adapters of InfiniBand, fake0 and fake1, for programs that load it by its name: the devices of
 * support_fake_verbs.c under the library's own names. */
#include "../../support_fake_verbs.c"

#define EXPORT(function)                                                                                                       \
    extern __typeof__(function) exported_##function __asm__("ibv_" #function)                                                   \
        __attribute__((alias(#function), visibility("default")));
EXPORT(get_device_list) EXPORT(free_device_list) EXPORT(get_device_name) EXPORT(open_device) EXPORT(close_device)
EXPORT(query_device) EXPORT(query_port) EXPORT(query_gid) EXPORT(query_pkey) EXPORT(alloc_pd) EXPORT(dealloc_pd)
EXPORT(reg_mr) EXPORT(reg_mr_iova2) EXPORT(reg_dmabuf_mr) EXPORT(dereg_mr) EXPORT(create_comp_channel)
EXPORT(destroy_comp_channel) EXPORT(create_cq) EXPORT(destroy_cq) EXPORT(get_cq_event) EXPORT(ack_cq_events)
EXPORT(create_srq) EXPORT(destroy_srq) EXPORT(create_qp) EXPORT(modify_qp) EXPORT(destroy_qp) EXPORT(get_async_event)
EXPORT(ack_async_event) EXPORT(wc_status_str) EXPORT(event_type_str)

void weft_verbs_library_set(const weft_verbs_library *library)
{
    (void)library;
}

__attribute__((constructor)) static void begin(void)
{
    fake_verbs_use(2);
    fake_verbs_infiniband();
}
