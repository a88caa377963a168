/* The tcp transport: the conformance suite with one and with several sockets per peer. */
#include "conformance.h"

static void several_sockets(weft_transport_config *config)
{
    config->sockets = 4;
}

int main(void)
{
    static const conformance_subject one = { .name = "tcp", .notices_death = true };
    static const conformance_subject several = {
        .name = "tcp", .notices_death = true, .configure = several_sockets};
    return conformance_run("tcp", &one) + conformance_run("tcp, 4 sockets per peer", &several);
}
