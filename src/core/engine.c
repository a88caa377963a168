/* Progress and waiting in a process group, and the news from its control plane. Creation is in create.c. */
#include "core/engine.h"

#include <sched.h>
#include <string.h>

#include "base/membarrier.h"
#include "core/comm.h"

/* All engines of the process. Order of locks: this one, then one engine's. */
static pthread_mutex_t engines_lock = PTHREAD_MUTEX_INITIALIZER;
static weft_engine *engines;
static _Atomic int engine_total;
static void (*_Atomic user_hook)(void *context);
static void *_Atomic user_hook_context;

enum {
    HOOK_INTERVAL_NS = 50000, NAP_NS = 20 * WEFT_NS_PER_MS, CHECK_NS = 5 * WEFT_NS_PER_MS, OTHERS_NAP_NS = WEFT_NS_PER_MS / 5
};
/* Who spins for longer asks whether somebody else wants the core: ranks that count as other hosts may share it (containers,
 * network namespaces), and so may anything else. */
enum { ALONE_NS = 5000 };

void weft_engine_set_hook(void (*hook)(void *context), void *context)
{
    atomic_store(&user_hook, NULL);
    atomic_store(&user_hook_context, context);
    atomic_store(&user_hook, hook);
}

void weft_engine_enlist(weft_engine *e)
{
    pthread_mutex_lock(&engines_lock);
    e->next = engines;
    engines = e;
    atomic_fetch_add(&engine_total, 1);
    pthread_mutex_unlock(&engines_lock);
}

void weft_engine_delist(weft_engine *e)
{
    pthread_mutex_lock(&engines_lock);
    for (weft_engine **link = &engines; *link; link = &(*link)->next)
        if (*link == e) {
            *link = e->next;
            atomic_fetch_sub(&engine_total, 1);
            break;
        }
    pthread_mutex_unlock(&engines_lock);
}

/* ---- news -------------------------------------------------------------------------------------- */

void weft_engine_notice(void *context, const weft_notice *notice)
{
    weft_engine *e = context;
    pthread_mutex_lock(&e->notice_lock);
    int n = atomic_load_explicit(&e->notice_count, memory_order_relaxed);
    if (n < WEFT_NOTICES) {
        e->notices[n] = *notice;
        atomic_store_explicit(&e->notice_count, n + 1, memory_order_release);
    }
    pthread_mutex_unlock(&e->notice_lock);
    weft_engine_wake(e);
}

void weft_engine_wake(weft_engine *e)
{
    /* acquire: pairs with open_host, the host is whole */
    weft_host *host = atomic_load_explicit(&e->bell, memory_order_acquire);
    if (host)
        weft_host_ring_self(host);
}

/* Takes some of the news; how many. */
static int take_some(weft_engine *e, weft_notice *news, int most)
{
    pthread_mutex_lock(&e->notice_lock);
    int n = atomic_load_explicit(&e->notice_count, memory_order_relaxed), taken = n < most ? n : most;
    memcpy(news, e->notices, sizeof *news * (size_t)taken);
    memmove(e->notices, e->notices + taken, sizeof *news * (size_t)(n - taken));
    atomic_store_explicit(&e->notice_count, n - taken, memory_order_relaxed);
    pthread_mutex_unlock(&e->notice_lock);
    return taken;
}

void weft_engine_take_news(weft_engine *e)
{
    while (atomic_load_explicit(&e->notice_count, memory_order_acquire) > 0) {
        weft_notice news[32];
        int n = take_some(e, news, ARRAY_LEN(news));
        for (int i = 0; i < n; i++) {
            if (news[i].comm == 0 && news[i].rank >= 0 && news[i].rank < e->ranks && news[i].rank != e->rank)
                weft_wire_peer_dead(&e->wire, news[i].rank, news[i].text);
            for (weft_comm *c = e->comms; c; c = c->next)
                weft_comm_notice(c, &news[i]);
        }
    }
}

/* ---- progress ---------------------------------------------------------------------------------- */

int weft_engine_progress(weft_engine *e)
{
    weft_engine_take_news(e);
    int moved = weft_wire_progress(&e->wire) + weft_host_progress(e->host); /* descriptors come and go */
    for (weft_comm *c = e->comms, *next; c; c = next) {
        next = c->next;
        moved += weft_comm_progress(c);
    }
    return moved;
}

int weft_engine_progress_others(const weft_engine *mine)
{
    if (atomic_load_explicit(&engine_total, memory_order_relaxed) <= (mine ? 1 : 0))
        return 0;
    int moved = 0;
    if (pthread_mutex_trylock(&engines_lock) != 0)
        return 0;
    for (weft_engine *e = engines; e; e = e->next) {
        if (e == mine || e->forks != weft_fork_count() || !weft_lock_try(&e->lock))
            continue;
        if (e->active && weft_engine_progress(e)) {
            moved++;
            if (e->waiters) {
                pthread_cond_broadcast(&e->woken);
                weft_engine_wake(e);
            }
        }
        weft_lock_release(&e->lock);
    }
    pthread_mutex_unlock(&engines_lock);
    return moved;
}

void weft_engine_progress_all(void)
{
    weft_engine_progress_others(NULL);
}

static void call_hook(int64_t now, int64_t *last)
{
    void (*hook)(void *) = atomic_load_explicit(&user_hook, memory_order_relaxed);
    if (!hook || now - *last < HOOK_INTERVAL_NS)
        return;
    *last = now;
    hook(atomic_load(&user_hook_context));
}

static bool transports_quiet(weft_engine *e)
{
    for (int i = 0; i < e->wire.route_count; i++)
        if (e->wire.routes[i].ops->arm(e->wire.routes[i].transport) != WEFT_OK)
            return false;
    return true;
}

/* Sleeps until something comes; the lock is held on entry and exit, not in between. */
static void sleep_once(weft_engine *e, bool (*done)(void *), void *context, int64_t until_ns)
{
    if (e->has_sleeper) {
        struct timespec at = {.tv_sec = until_ns / 1000000000, .tv_nsec = until_ns % 1000000000};
        weft_lock_wait(&e->lock, &e->woken, &at);
        return;
    }
    bool with_fds = e->wait_fd_count > 0;
    weft_host_prepare_sleep(e->host, with_fds);
    if (weft_engine_progress(e) || done(context) || !transports_quiet(e) ||
        atomic_load_explicit(&e->notice_count, memory_order_acquire)) {
        weft_host_cancel_sleep(e->host);
        return;
    }
    e->has_sleeper = true;
    weft_lock_release(&e->lock);
    weft_host_sleep(e->host, e->wait_fds, e->wait_fd_count, until_ns);
    weft_lock_take(&e->lock);
    e->has_sleeper = false;
    if (e->waiters > 1)
        pthread_cond_broadcast(&e->woken);
}

void weft_engine_check(weft_engine *e)
{
    int64_t now = weft_now_ns();
    for (weft_comm *c = e->comms; c; c = c->next)
        weft_comm_idle(c, now);
}

bool weft_engine_wait(weft_engine *e, bool (*done)(void *context), void *context, int64_t deadline_ns)
{
    int64_t idle_since = 0, hooked = 0, checked = 0;
    /* What comes from another host takes long enough for others to have the core meanwhile. */
    int64_t alone_ns = weft_host_count(e->host) > 1 ? -1 : ALONE_NS;
    int yields = 0;
    unsigned rounds = 0;
    bool is_done;
    e->waiters++;
    while (!(is_done = done(context))) {
        bool moved = weft_engine_progress(e) > 0;
        if (moved && e->waiters > 1)
            pthread_cond_broadcast(&e->woken);
        if (moved) {
            idle_since = 0;
            yields = 0;
            if (++rounds % 1024)
                continue;
        }
        int64_t now = weft_now_ns();
        if (now > deadline_ns)
            break;
        if (!checked)
            checked = now;
        if (now - checked > CHECK_NS) { /* also while others keep this thread busy */
            checked = now;
            weft_engine_check(e);
        }
        if (moved)
            continue;
        call_hook(now, &hooked);
        bool others = weft_engine_progress_others(e) > 0;
        if (!idle_since || others) {
            idle_since = now;
            yields = others ? 0 : yields;
        }
        if (now - idle_since < e->spin_ns) {
            if (e->waiters > 1 || now - idle_since > alone_ns) { /* let the others at the lock, and at the core */
                weft_lock_release(&e->lock);
                if (now - idle_since > alone_ns)
                    sched_yield();
                else
                    weft_cpu_relax();
                weft_lock_take(&e->lock);
            } else {
                weft_cpu_relax();
            }
            continue;
        }
        if (yields++ < e->yields) {
            weft_lock_release(&e->lock);
            sched_yield();
            weft_lock_take(&e->lock);
            continue;
        }
        bool alone = atomic_load_explicit(&engine_total, memory_order_relaxed) <= 1 && !atomic_load(&user_hook);
        int64_t nap = now + (alone ? NAP_NS : OTHERS_NAP_NS);
        sleep_once(e, done, context, nap < deadline_ns ? nap : deadline_ns);
    }
    e->waiters--;
    return is_done;
}

void weft_engine_lighten(weft_engine *e)
{
    if (!weft_lock_is_steady(&e->lock))
        return;
    if (weft_membarrier_ready()) {
        /* who spins briefly sleeps often, and each sleep would interrupt the others */
        if (e->spin_ns > 0)
            weft_host_lighten(e->host);
    } else if (!e->light_wanted) {
        e->light_wanted = true;
        weft_control_run_errand(e->control, weft_membarrier_register);
    }
}

void weft_engine_retain(weft_engine *e)
{
    e->references++;
}
