// Sends HTTP requests to a set of addresses × ports, a new connection each time, and prints the response and time of each.
// One process and one thread (epoll), so that hundreds of endpoints cost little. Lines: MILLISECONDS ADDRESS PORT ok HOST
// or MILLISECONDS ADDRESS PORT err REASON; the time is that of the start of the attempt, since the epoch.
#include "common.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>

struct target {
  struct sockaddr_in to;
  const char *address;
  int port, s, answered;
  long next, started; // ns; started 0: idle
};

static int quiet, epoll;
static long interval, limit;
static int responding, waiting;

static void report(struct target *d, const char *verdict, const char *text) {
  if (!quiet) printf("%ld %s %d %s %s\n", now_ns(CLOCK_REALTIME) / 1000000 - (now_ns(CLOCK_MONOTONIC) - d->started) / 1000000, d->address, d->port, verdict, text);
  if (d->s >= 0) close(d->s);
  d->s = -1;
  d->next = d->started + interval;
  d->started = 0;
  if (verdict[0] == 'o' && !d->answered) {
    d->answered = 1;
    responding++;
  }
}

static void send_request(struct target *d, unsigned index) {
  d->started = now_ns(CLOCK_MONOTONIC);
  d->s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (connect(d->s, (void *)&d->to, sizeof d->to) && errno != EINPROGRESS) {
    report(d, "err", strerror(errno));
    return;
  }
  struct epoll_event e = {.events = EPOLLOUT, .data.u32 = index};
  epoll_ctl(epoll, EPOLL_CTL_ADD, d->s, &e);
}

static void proceed(struct target *d, unsigned index, unsigned events) {
  static const char request[] = "GET / HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n";
  int problem = 0;
  socklen_t size = sizeof problem;
  getsockopt(d->s, SOL_SOCKET, SO_ERROR, &problem, &size);
  if (problem) {
    report(d, "err", strerror(problem));
    return;
  }
  if (events & EPOLLOUT) {
    if (write(d->s, request, sizeof request - 1) < 0) {
      report(d, "err", strerror(errno));
      return;
    }
    struct epoll_event e = {.events = EPOLLIN, .data.u32 = index};
    epoll_ctl(epoll, EPOLL_CTL_MOD, d->s, &e);
    return;
  }
  char reply[2048], name[64] = "?";
  int got = read(d->s, reply, sizeof reply - 1);
  if (got > 0) {
    reply[got] = 0;
    char *body = strstr(reply, "\r\n\r\n");
    if (body) sscanf(body + 4, "%63s", name);
    report(d, "ok", name);
  } else report(d, "err", got == 0 ? "end of file" : strerror(errno));
}

int main(int argc, char **argv) {
  usage_unless(argc >= 7, "probe [-q] FIRST_PORT COUNT EVERY_MS LIMIT_MS SECONDS ADDRESS…\n"
                          "runs for SECONDS; -q: prints only how many endpoints responded, and exits when all have (status 1: not all)");
  quiet = !strcmp(argv[1], "-q");
  char **a = argv + quiet;
  int first = atoi(a[1]), count = atoi(a[2]), addresses = argc - quiet - 6, targets = count * addresses;
  interval = atol(a[3]) * 1000000L;
  limit = atol(a[4]) * 1000000L;
  long begin = now_ns(CLOCK_MONOTONIC), end = begin + (long)(atof(a[5]) * 1e9);
  usage_unless(count > 0 && addresses > 0, "probe: at least one port and one address");
  signal(SIGPIPE, SIG_IGN);
  setvbuf(stdout, 0, _IOLBF, 0);
  struct target *all = calloc(targets, sizeof *all);
  for (int i = 0; i < targets; i++) {
    all[i].address = a[6 + i % addresses];
    all[i].port = first + i / addresses;
    all[i].to = endpoint(all[i].address, all[i].port);
    all[i].s = -1;
    all[i].next = begin + interval * i / targets; // spread, so that they do not all start at once
  }
  epoll = epoll_create1(0);
  for (int shown = 0; now_ns(CLOCK_MONOTONIC) < end;) {
    long now = now_ns(CLOCK_MONOTONIC), soonest = now + 50000000L;
    waiting = 0;
    for (int i = 0; i < targets; i++) {
      struct target *d = &all[i];
      if (d->started && now - d->started > limit) report(d, "err", "timed out");
      if (d->started) waiting++;
      else if (quiet && d->answered) continue;
      // At most 64 at a time: more would time out on a slow host, independent of the mesh.
      else if (d->next <= now && waiting < 64) {
        send_request(d, i);
        waiting++;
      } else if (d->next < soonest) soonest = d->next;
    }
    if (quiet && responding == targets) break;
    struct epoll_event events[64];
    int ready = epoll_wait(epoll, events, 64, soonest > now ? (soonest - now) / 1000000 : 0);
    for (int i = 0; i < ready; i++) proceed(&all[events[i].data.u32], events[i].data.u32, events[i].events);
    for (; quiet && shown < 10 && responding * 10 >= (shown + 1) * targets; shown++) {
      fprintf(stderr, "%d%% of %d endpoints responded after %ld ms\n", (shown + 1) * 10, targets, (now_ns(CLOCK_MONOTONIC) - begin) / 1000000);
    }
  }
  if (quiet) printf("%ld %d %d\n", (now_ns(CLOCK_MONOTONIC) - begin) / 1000000, responding, targets);
  return quiet && responding < targets;
}
