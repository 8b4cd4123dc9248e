// Sequential HTTP requests: one connection each, or all over one. Prints percentiles of their duration in µs.
#include "common.h"

int main(int argc, char **argv) {
  usage_unless(argc == 5 && (!strcmp(argv[4], "close") || !strcmp(argv[4], "keep")),
               "ask-http ADDRESS PORT COUNT close|keep; prints p50 p90 p99 p99.9 (µs), requests per second, failures");
  struct sockaddr_in to = endpoint(argv[1], atoi(argv[2]));
  int count = atoi(argv[3]), keep = argv[4][0] == 'k', s = -1, failed = 0, done = 0;
  const char *request = keep ? "GET / HTTP/1.1\r\nHost: bench\r\n\r\n" : "GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n";
  double *times = malloc(count * sizeof *times);
  char reply[4096];
  long begin = now_ns(CLOCK_MONOTONIC);
  for (int i = 0; i < count; i++) {
    long start = now_ns(CLOCK_MONOTONIC);
    if (s < 0) {
      s = socket(AF_INET, SOCK_STREAM, 0);
      time_limit(s, 2000);
      if (connect(s, (void *)&to, sizeof to)) {
        failed++;
        close(s);
        s = -1;
        continue;
      }
    }
    int good = write(s, request, strlen(request)) > 0 && read(s, reply, sizeof reply) > 0;
    if (!good || !keep) {
      close(s);
      s = -1;
    }
    if (good) times[done++] = (now_ns(CLOCK_MONOTONIC) - start) / 1e3;
    else failed++;
  }
  double seconds = (now_ns(CLOCK_MONOTONIC) - begin) / 1e9;
  if (done == 0) {
    fprintf(stderr, "ask-http: no response to %d requests\n", count);
    return 1;
  }
  qsort(times, done, sizeof *times, ascending);
  printf("%.1f %.1f %.1f %.1f %.0f %d\n", times[done / 2], times[done * 9 / 10], times[(long)done * 99 / 100],
         times[(long)done * 999 / 1000], done / seconds, failed);
}
