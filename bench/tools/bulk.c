// One TCP stream for some seconds: `up` writes (to tcp/5201 of serve), `down` reads (from tcp/5202). Prints Mbit/s.
// The first fifth of a second (slow start) is not counted.
#include "common.h"

int main(int argc, char **argv) {
  usage_unless(argc == 5 && (!strcmp(argv[4], "up") || !strcmp(argv[4], "down")), "bulk ADDRESS PORT SECONDS up|down");
  struct sockaddr_in to = endpoint(argv[1], atoi(argv[2]));
  static char data[128 << 10];
  int s = socket(AF_INET, SOCK_STREAM, 0), up = argv[4][0] == 'u';
  time_limit(s, 3000);
  if (connect(s, (void *)&to, sizeof to)) die("connect");
  long begin = now_ns(CLOCK_MONOTONIC), start = begin + 200000000L, end = start + (long)(atof(argv[3]) * 1e9), now;
  double bytes = 0;
  long first = 0;
  while ((now = now_ns(CLOCK_MONOTONIC)) < end) {
    long part = up ? write(s, data, sizeof data) : read(s, data, sizeof data);
    if (part <= 0) die(up ? "write" : "read");
    if (now < start) continue;
    if (first == 0) first = now;
    bytes += part;
  }
  printf("%.0f\n", bytes * 8e3 / (now - first));
}
