// UDP request and reply in batches: sends BATCH datagrams, waits for all replies, repeats. Prints ns per request and reply.
#include "common.h"

enum { MOST = 1024, MTU = 1500 };

int main(int argc, char **argv) {
  usage_unless(argc == 6, "ask-udp ADDRESS PORT ROUNDS BATCH BYTES   (BATCH at most 1024); prints ns per pair and replies per request");
  struct sockaddr_in to = endpoint(argv[1], atoi(argv[2]));
  int rounds = atoi(argv[3]), batch = atoi(argv[4]), bytes = atoi(argv[5]);
  usage_unless(batch > 0 && batch <= MOST && bytes > 0 && bytes <= MTU, "ask-udp: BATCH 1 to 1024, BYTES 1 to 1500");
  int s = socket(AF_INET, SOCK_DGRAM, 0);
  buffers(s, 64 << 20);
  time_limit(s, 1000);
  if (connect(s, (void *)&to, sizeof to)) die("connect");

  static char data[MOST][MTU];
  static struct mmsghdr messages[MOST];
  static struct iovec parts[MOST];
  for (int i = 0; i < MOST; i++) {
    parts[i].iov_base = data[i];
    messages[i].msg_hdr.msg_iov = &parts[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  long sent = 0, got = 0, start = 0;
  for (int round = -1; round < rounds; round++) {
    if (round == 0) { // the first round is a warm-up
      sent = got = 0;
      start = now_ns(CLOCK_MONOTONIC);
    }
    for (int i = 0; i < batch; i++) parts[i].iov_len = bytes;
    int out = 0, back = 0, more;
    while (out < batch && (more = sendmmsg(s, messages + out, batch - out, 0)) > 0) out += more;
    for (int i = 0; i < batch; i++) parts[i].iov_len = MTU;
    while (back < out && (more = recvmmsg(s, messages, out - back, MSG_WAITFORONE, 0)) > 0) back += more;
    sent += out;
    got += back;
  }
  printf("%.1f %.4f\n", (double)(now_ns(CLOCK_MONOTONIC) - start) / (got ? got : 1), (double)got / (sent ? sent : 1));
}
