/* Asks the kernel by rtnetlink what queueing disciplines and classes an interface has, and reads their rates. Containers and
 * test hosts are held to a rate so, and their virtual interfaces claim another speed. */
#define _DEFAULT_SOURCE
#include "base/traffic.h"

#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/base.h"

enum { ANSWER_BYTES = 32 << 10, MBIT_BYTES = 1000 * 1000 / 8 };

typedef struct search {
    int index;
    uint64_t limit_Bps; /* of what was seen so far */
    bool htb;           /* at the root: its classes have the rates */
} search;

/* The attribute of that type among `bytes` of them; NULL: none of at least `least` bytes. */
static const void *find(const void *attributes, size_t bytes, unsigned short type, size_t least)
{
    const char *at = attributes;
    while (bytes >= sizeof(struct rtattr)) {
        struct rtattr a;
        memcpy(&a, at, sizeof a);
        if (a.rta_len < sizeof a || a.rta_len > bytes)
            return NULL;
        if ((a.rta_type & NLA_TYPE_MASK) == type)
            return a.rta_len - sizeof a >= least ? at + sizeof a : NULL;
        size_t step = RTA_ALIGN(a.rta_len);
        if (step >= bytes)
            return NULL;
        at += step;
        bytes -= step;
    }
    return NULL;
}

/* Bytes of the attribute whose contents those are. */
static size_t length_of(const void *contents)
{
    struct rtattr a;
    memcpy(&a, (const char *)contents - sizeof a, sizeof a);
    return a.rta_len - sizeof a;
}

static uint64_t rate(const void *options, unsigned short wide, uint32_t narrow)
{
    uint64_t bytes = narrow;
    const void *found = find(options, length_of(options), wide, sizeof bytes);
    if (found)
        memcpy(&bytes, found, sizeof bytes);
    return bytes;
}

static uint64_t tbf_rate(const void *options)
{
    struct tc_tbf_qopt q;
    const void *found = find(options, length_of(options), TCA_TBF_PARMS, sizeof q);
    if (!found)
        return 0;
    memcpy(&q, found, sizeof q);
    return rate(options, TCA_TBF_RATE64, q.rate.rate);
}

static uint64_t htb_ceiling(const void *options)
{
    struct tc_htb_opt c;
    const void *found = find(options, length_of(options), TCA_HTB_PARMS, sizeof c);
    if (!found)
        return 0;
    memcpy(&c, found, sizeof c);
    return rate(options, TCA_HTB_CEIL64, c.ceil.rate);
}

static void look(search *s, const struct nlmsghdr *message)
{
    struct tcmsg t;
    if (message->nlmsg_len < NLMSG_LENGTH(sizeof t))
        return;
    memcpy(&t, NLMSG_DATA(message), sizeof t);
    const char *attributes = (const char *)NLMSG_DATA(message) + NLMSG_ALIGN(sizeof t);
    size_t bytes = message->nlmsg_len - NLMSG_LENGTH(NLMSG_ALIGN(sizeof t));
    const char *kind = find(attributes, bytes, TCA_KIND, 4);
    const void *options = find(attributes, bytes, TCA_OPTIONS, 0);
    if (t.tcm_ifindex != s->index || !kind || !options)
        return;
    bool qdisc = message->nlmsg_type == RTM_NEWQDISC;
    uint64_t Bps = 0;
    if (qdisc && t.tcm_parent == TC_H_ROOT && strncmp(kind, "tbf", 4) == 0)
        Bps = tbf_rate(options);
    else if (qdisc && t.tcm_parent == TC_H_ROOT && strncmp(kind, "htb", 4) == 0)
        s->htb = true;
    else if (!qdisc && t.tcm_parent == TC_H_ROOT && strncmp(kind, "htb", 4) == 0)
        Bps = htb_ceiling(options);
    if (Bps > s->limit_Bps)
        s->limit_Bps = Bps;
}

/* Looks at everything of one dump; false: it cannot be had. */
static bool dump(int fd, search *s, uint16_t type, void *answer)
{
    struct {
        struct nlmsghdr header;
        struct tcmsg body;
    } ask = {.header = {.nlmsg_len = sizeof ask, .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
             .body = {.tcm_family = AF_UNSPEC, .tcm_ifindex = s->index}};
    if (send(fd, &ask, sizeof ask, 0) != (ssize_t)sizeof ask)
        return false;
    for (;;) {
        ssize_t got = recv(fd, answer, ANSWER_BYTES, 0);
        if (got <= 0)
            return false;
        size_t left = (size_t)got;
        for (const struct nlmsghdr *m = answer; NLMSG_OK(m, left); m = NLMSG_NEXT(m, left)) {
            if (m->nlmsg_type == NLMSG_DONE)
                return true;
            if (m->nlmsg_type == NLMSG_ERROR)
                return false;
            look(s, m);
        }
    }
}

uint32_t weft_traffic_limit_Mbps(unsigned interface_index)
{
    search s = {.index = (int)interface_index};
    struct timeval soon = {.tv_sec = 1};
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0)
        return 0;
    void *answer = weft_alloc(ANSWER_BYTES); /* none: nothing is known */
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon);
    bool done = answer && dump(fd, &s, RTM_GETQDISC, answer);
    if (done && s.htb)
        (void)dump(fd, &s, RTM_GETTCLASS, answer);
    close(fd);
    weft_free(answer);
    uint64_t Mbps = (s.limit_Bps + MBIT_BYTES - 1) / MBIT_BYTES;
    return Mbps > UINT32_MAX ? 0 : (uint32_t)Mbps;
}
