/* Measured figures: put into a copy of a machine, and taken out again by a job. */
#include "topology/measured.h"

#include <stdlib.h>

#include "topology/graph.h"

static const char bandwidth_name[] = "measured_Bps", latency_name[] = "measured_ns";

static weft_status check(const weft_topology *t, const weft_topology_measurement *m)
{
    if (!(m->bandwidth_Bps > 0 && m->bandwidth_Bps < 1e18) || !(m->latency_ns >= 0 && m->latency_ns < 1e18))
        return weft_fail(WEFT_ERR_INVALID, "measured %g bytes per second and %g ns: no figures of a path", m->bandwidth_Bps,
                         m->latency_ns);
    if (m->edge >= 0 ? m->edge >= t->edges : m->node < 0 || m->node >= t->nodes)
        return weft_fail(WEFT_ERR_INVALID, "measured: there is no edge %d, no node %d", m->edge, m->node);
    return WEFT_OK;
}

static void put(weft_topology *t, const weft_topology_measurement *m)
{
    if (m->edge < 0) {
        weft_topology_set_number(t, m->node, bandwidth_name, m->bandwidth_Bps);
        weft_topology_set_number(t, m->node, latency_name, m->latency_ns);
        return;
    }
    weft_topology_edge *e = &t->edge[m->edge];
    e->bandwidth_Bps = m->bandwidth_Bps;
    e->latency_ns = m->latency_ns;
    e->source = WEFT_FIGURE_MEASURED;
}

/* By way of its own format, which has all of it, node for node. */
static weft_status copy_of(const weft_topology *t, weft_topology **copy)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *stream = open_memstream(&text, &bytes);
    weft_status status = stream ? weft_topology_write(t, WEFT_TOPOLOGY_XML, stream) : WEFT_ERR_MEMORY;
    if (stream && fclose(stream) != 0)
        status = WEFT_ERR_MEMORY;
    status = status == WEFT_OK ? weft_topology_parse(text, bytes, "a copy", copy)
                               : weft_fail(WEFT_ERR_MEMORY, "no memory for a copy of the machine");
    weft_free(text); /* libc's, as all memory here */
    return status;
}

weft_status weft_topology_with_measurements(const weft_topology *topology, const weft_topology_measurement *measurement,
                                            int count, weft_topology **copy)
{
    weft_topology *t;
    weft_clear_error();
    for (int i = 0; i < count; i++) {
        weft_status status = check(topology, &measurement[i]);
        if (status != WEFT_OK)
            return status;
    }
    weft_status status = copy_of(topology, &t);
    if (status != WEFT_OK)
        return status;
    for (int i = 0; i < count; i++) /* the copy's edges are in the same order */
        put(t, &measurement[i]);
    status = t->out_of_memory ? weft_fail(WEFT_ERR_MEMORY, "no memory for a copy of the machine") : weft_topology_verify(t);
    if (status == WEFT_OK)
        *copy = t;
    else
        weft_topology_free(t);
    return status;
}

static void worst_of(weft_measured *worst, double latency_ns, double bandwidth_Bps)
{
    if (bandwidth_Bps <= 0)
        return;
    worst->latency_ns = latency_ns > worst->latency_ns ? latency_ns : worst->latency_ns;
    if (worst->bandwidth_Bps <= 0 || bandwidth_Bps < worst->bandwidth_Bps)
        worst->bandwidth_Bps = bandwidth_Bps;
}

void weft_topology_measured(const weft_topology *t, weft_measured *local, weft_measured *network)
{
    *local = *network = (weft_measured){ 0 };
    for (int i = 0; i < t->nodes; i++)
        worst_of(local, weft_topology_attribute_number(t, i, latency_name, 0),
                 weft_topology_attribute_number(t, i, bandwidth_name, 0));
    for (int i = 0; i < t->edges; i++) {
        const weft_topology_edge *e = &t->edge[i];
        if (e->source != WEFT_FIGURE_MEASURED)
            continue;
        if (e->kind == WEFT_EDGE_WIRE) {
            network->bandwidth_Bps += e->bandwidth_Bps;
            network->latency_ns = e->latency_ns > network->latency_ns ? e->latency_ns : network->latency_ns;
        } else {
            worst_of(local, e->latency_ns, e->bandwidth_Bps);
        }
    }
}
