/* Network from sysfs: interfaces with speed, state and MTU, bonds and VLANs over others, RDMA devices with their
 * ports and GIDs. */
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "topology/live.h"

enum { INTERFACES_MAX = 4096, GIDS_MAX = 16 };

/* The PCI function behind a class device: the innermost bus id on the way to it (virtio lies below one). */
static int nic_behind(const weft_live *l, const char *class_name, const char *name)
{
    char path[WEFT_LIVE_PATH], id[WEFT_BUS_ID_BYTES], *save;
    int nic = -1;
    if (!weft_live_resolve(l, path, sizeof path, "/sys/class/%s/%s/device", class_name, name))
        return -1;
    for (char *part = strtok_r(path, "/", &save); part; part = strtok_r(NULL, "/", &save)) {
        int node = weft_bus_id_parse(part, id) ? weft_topology_find_bus(l->t, id) : -1;
        if (node >= 0 && l->t->node[node].shown.kind == WEFT_NODE_NIC)
            nic = node;
    }
    return nic;
}

static int find_port(const weft_live *l, int nic, const char *name, int number)
{
    for (int i = nic + 1; i < l->t->nodes; i++) {
        const weft_topology_node *n = &l->t->node[i].shown;
        if (n->kind == WEFT_NODE_PORT && n->parent == nic && strcmp(n->name, name) == 0 &&
            (number == 0 || weft_topology_attribute_number(l->t, i, "port", 1) == number))
            return i;
    }
    return -1;
}

static bool has_port(const weft_live *l, int nic)
{
    for (int i = nic + 1; i < l->t->nodes; i++)
        if (l->t->node[i].shown.kind == WEFT_NODE_PORT && l->t->node[i].shown.parent == nic)
            return true;
    return false;
}

static int add_port(weft_live *l, int nic, const char *name, int number)
{
    int port = find_port(l, nic, name, number);
    if (port < 0) {
        port = weft_topology_add_node(l->t, WEFT_NODE_PORT, nic);
        weft_topology_set_name(l->t, port, name);
    }
    if (number > 0)
        weft_topology_set_number(l->t, port, "port", number);
    if (!weft_topology_edit(l->t, nic)->name[0])
        weft_topology_set_name(l->t, nic, name);
    return port;
}

/* ---- RDMA devices ------------------------------------------------------------------------------ */

/* GIDs that are set, as "3:RoCE v2:fe80:...". */
static void tell_gids(weft_live *l, int port, const char *device, int number)
{
    char list[WEFT_LIVE_TEXT] = "", gid[64], type[32];
    size_t used = 0;
    for (int i = 0; i < GIDS_MAX; i++) {
        if (!weft_live_read(l, gid, sizeof gid, "/sys/class/infiniband/%s/ports/%d/gids/%d", device, number, i))
            break;
        if (strspn(gid, "0:") == strlen(gid))
            continue;
        if (!weft_live_read(l, type, sizeof type, "/sys/class/infiniband/%s/ports/%d/gid_attrs/types/%d", device, number, i))
            snprintf(type, sizeof type, "IB");
        int length = snprintf(list + used, sizeof list - used, "%s%d:%s:%s", used ? " " : "", i, type, gid);
        if (length < 0 || (size_t)length >= sizeof list - used)
            break;
        used += (size_t)length;
    }
    if (used)
        weft_topology_set(l->t, port, "gids", list);
}

static void add_rdma_ports(weft_live *l, int nic, const char *device)
{
    char text[128];
    for (int number = 1; number <= 8 && weft_live_exists(l, "/sys/class/infiniband/%s/ports/%d", device, number); number++) {
        int port = add_port(l, nic, device, number);
        if (weft_live_read(l, text, sizeof text, "/sys/class/infiniband/%s/ports/%d/state", device, number))
            weft_topology_set(l->t, port, "state", strncmp(text, "4", 1) == 0 ? "up" : "down");
        if (weft_live_read(l, text, sizeof text, "/sys/class/infiniband/%s/ports/%d/rate", device, number))
            weft_topology_set_number(l->t, port, "speed", weft_strtod(text, NULL) * 1000); /* "400 Gb/sec (4X NDR)" */
        if (weft_live_read(l, text, sizeof text, "/sys/class/infiniband/%s/ports/%d/link_layer", device, number))
            weft_topology_set(l->t, port, "link_layer", text);
        if (weft_live_read(l, text, sizeof text, "/sys/class/infiniband/%s/node_guid", device))
            weft_topology_set(l->t, port, "guid", text);
        tell_gids(l, port, device, number);
    }
}

static int virtual_nic(weft_live *l, const char *name)
{
    int numa = weft_live_numa(l, -1);
    int nic = weft_topology_add_node(l->t, WEFT_NODE_NIC, numa >= 0 ? numa : l->host);
    weft_topology_set_name(l->t, nic, name);
    return nic;
}

static void add_rdma(weft_live *l, const char *device)
{
    int nic = nic_behind(l, "infiniband", device);
    if (nic < 0) { /* rxe and the like: over an interface */
        nic = virtual_nic(l, device);
        weft_topology_set(l->t, nic, "software", "1");
    }
    add_rdma_ports(l, nic, device);
}

/* ---- interfaces -------------------------------------------------------------------------------- */

/* The interfaces below a bond, VLAN or bridge: links lower_NAME. */
static bool tell_lower(weft_live *l, int nic, const char *name)
{
    char folder[WEFT_LIVE_PATH], list[512] = "", *entry[64];
    size_t used = 0;
    snprintf(folder, sizeof folder, "/sys/class/net/%s", name);
    int count = weft_live_list(l, folder, entry, (int)ARRAY_LEN(entry));
    for (int i = 0; i < count; i++) {
        if (strncmp(entry[i], "lower_", 6) == 0 && used + strlen(entry[i]) < sizeof list)
            used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", used ? " " : "", entry[i] + 6);
        weft_free(entry[i]);
    }
    if (used)
        weft_topology_set(l->t, nic, "over", list);
    return used > 0;
}

static void tell_interface(weft_live *l, int node, const char *name)
{
    char text[64];
    double mbit = weft_live_read(l, text, sizeof text, "/sys/class/net/%s/speed", name) ? weft_strtod(text, NULL) : 0;
    if (mbit > 0 && mbit < 4e9) /* unknown is -1, or that without its sign */
        weft_topology_set_number(l->t, node, "speed", mbit);
    if (weft_live_read(l, text, sizeof text, "/sys/class/net/%s/mtu", name))
        weft_topology_set(l->t, node, "mtu", text);
    if (weft_live_read(l, text, sizeof text, "/sys/class/net/%s/operstate", name) && strcmp(text, "unknown") != 0)
        weft_topology_set(l->t, node, "state", strcmp(text, "up") == 0 ? "up" : "down");
}

static bool is_kind_of(const weft_live *l, const char *name, const char *kind)
{
    return weft_live_exists(l, "/sys/class/net/%s/%s", name, kind);
}

static void add_interface(weft_live *l, const char *name)
{
    char type[16];
    if (weft_live_read(l, type, sizeof type, "/sys/class/net/%s/type", name) && strcmp(type, "772") == 0)
        return; /* loopback */
    int nic = nic_behind(l, "net", name);
    if (nic >= 0 && has_port(l, nic) && find_port(l, nic, name, 0) < 0) {
        /* An RDMA device has named the ports; this is how sockets call it. */
        char mtu[16];
        weft_topology_set(l->t, nic, "interface", name);
        if (weft_live_read(l, mtu, sizeof mtu, "/sys/class/net/%s/mtu", name))
            weft_topology_set(l->t, nic, "mtu", mtu);
        return;
    }
    bool own = nic < 0, device = weft_live_exists(l, "/sys/class/net/%s/device", name);
    if (own)
        nic = virtual_nic(l, name);
    if (is_kind_of(l, name, "bonding"))
        weft_topology_set(l->t, nic, "type", "bond");
    else if (is_kind_of(l, name, "bridge"))
        weft_topology_set(l->t, nic, "type", "bridge");
    bool lower = own && tell_lower(l, nic, name);
    if (own && (lower || is_kind_of(l, name, "bridge") || is_kind_of(l, name, "tun_flags")))
        weft_topology_set(l->t, nic, "software", "1"); /* what it stands on is counted */
    else if (own && !device)
        weft_topology_set(l->t, nic, "type", "virtual");
    tell_interface(l, add_port(l, nic, name, 0), name);
}

/* Virtual interfaces are the way out of a container; beside real NICs they lead into one. */
static void judge_virtual_interfaces(weft_live *l)
{
    bool real = false;
    for (int i = 0; i < l->t->nodes; i++)
        real |= l->t->node[i].shown.kind == WEFT_NODE_PORT && l->t->node[l->t->node[i].shown.parent].shown.bus_id[0] != 0;
    for (int i = 0; i < l->t->nodes && real; i++) {
        const char *type = l->t->node[i].shown.kind == WEFT_NODE_NIC ? weft_topology_attribute(l->t, i, "type") : NULL;
        if (type && strcmp(type, "virtual") == 0)
            weft_topology_set(l->t, i, "software", "1");
    }
}

/* A NIC whose driver shows neither an interface nor an RDMA device here (it is in another namespace, or not bound). */
static void mark_nics_without_interface(weft_live *l)
{
    for (int i = 0; i < l->t->nodes; i++) {
        const weft_topology_node *n = &l->t->node[i].shown;
        if (n->kind != WEFT_NODE_NIC || has_port(l, i))
            continue;
        weft_topology_set(l->t, i, "no_link", "1");
        if (!weft_topology_attribute(l->t, i, "virtual"))
            weft_topology_add_note(l->t, "%s has no interface that can be seen from here", n->bus_id);
    }
}

void weft_live_network(weft_live *l)
{
    char **name = weft_alloc_array(INTERFACES_MAX, sizeof *name);
    if (!name) {
        l->t->out_of_memory = true;
        return;
    }
    int count = weft_live_list(l, "/sys/class/infiniband", name, INTERFACES_MAX);
    for (int i = 0; i < count; i++) {
        add_rdma(l, name[i]);
        weft_free(name[i]);
    }
    count = weft_live_list(l, "/sys/class/net", name, INTERFACES_MAX);
    if (count == 0)
        weft_topology_add_note(l->t, "%s/sys/class/net shows no interface", l->root);
    for (int i = 0; i < count; i++) {
        add_interface(l, name[i]);
        weft_free(name[i]);
    }
    weft_free(name);
    judge_virtual_interfaces(l);
    mark_nics_without_interface(l);
}
