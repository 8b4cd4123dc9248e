// Sends UDP frames directly to a link, below the sender's own IP stack. On one CPU with ksoftirqd above this process
// every frame is fully processed when the next one is sent, so wall time / frames is the total cost of a packet.
#include "common.h"
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <sys/ioctl.h>

enum { BATCH = 512, FRAME = 1514 };

static unsigned short checksum(const void *data, int bytes) {
  const unsigned short *word = data;
  unsigned sum = 0;
  for (; bytes > 1; bytes -= 2) sum += *word++;
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return ~sum;
}

int main(int argc, char **argv) {
  usage_unless(argc == 10, "send-packets LINK TO_MAC FROM_IP TO_IP TO_PORT COUNT FLOWS PAYLOAD FIRST_PORT\n"
                           "FLOWS source ports in turn, from FIRST_PORT; prints wall nanoseconds per packet");
  const char *link = argv[1];
  struct sockaddr_in from = endpoint(argv[3], 0), to = endpoint(argv[4], atoi(argv[5]));
  long count = atol(argv[6]), flows = atol(argv[7]);
  int payload = atoi(argv[8]), first = atoi(argv[9]);
  usage_unless(payload >= 0 && payload <= 1472 && flows > 0 && first > 0 && first + flows <= 65536 && count > 0,
               "send-packets: PAYLOAD at most 1472, FIRST_PORT + FLOWS at most 65536, COUNT at least 1");

  int s = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_IP));
  if (s < 0) die("AF_PACKET");
  struct sockaddr_ll where = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP), .sll_ifindex = if_nametoindex(link)};
  if (bind(s, (void *)&where, sizeof where)) die(link);
  struct ifreq request = {0};
  strncpy(request.ifr_name, link, IFNAMSIZ - 1);
  if (ioctl(s, SIOCGIFHWADDR, &request)) die("SIOCGIFHWADDR");
  int one = 1, send_buffer = 400 << 10;
  setsockopt(s, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one);
  // Bounded, so that a slow path blocks the sender instead of filling a queue that then drops.
  setsockopt(s, SOL_SOCKET, SO_SNDBUFFORCE, &send_buffer, sizeof send_buffer);

  static unsigned char frames[BATCH][FRAME];
  static struct mmsghdr messages[BATCH];
  static struct iovec parts[BATCH];
  unsigned char mac[6];
  usage_unless(sscanf(argv[2], "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", mac, mac + 1, mac + 2, mac + 3, mac + 4, mac + 5) == 6,
               "send-packets: TO_MAC like 02:00:00:00:00:01");
  for (int i = 0; i < BATCH; i++) {
    struct ethhdr *eth = (void *)frames[i];
    struct iphdr *ip = (void *)(eth + 1);
    struct udphdr *udp = (void *)(ip + 1);
    memcpy(eth->h_dest, mac, 6);
    memcpy(eth->h_source, request.ifr_hwaddr.sa_data, 6);
    eth->h_proto = htons(ETH_P_IP);
    *ip = (struct iphdr){.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP, .tot_len = htons(28 + payload),
                         .saddr = from.sin_addr.s_addr, .daddr = to.sin_addr.s_addr};
    ip->check = checksum(ip, sizeof *ip);
    *udp = (struct udphdr){.source = 0, .dest = to.sin_port, .len = htons(8 + payload)}; // no checksum: allowed over IPv4
    memset(udp + 1, 'x', payload);
    parts[i] = (struct iovec){frames[i], sizeof *eth + 28 + payload};
    messages[i].msg_hdr.msg_iov = &parts[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }

  long sent = 0, flow = 0, refused = 0, start = now_ns(CLOCK_MONOTONIC);
  while (sent < count) {
    int batch = count - sent < BATCH ? count - sent : BATCH;
    for (int i = 0; i < batch; i++) {
      ((struct udphdr *)(frames[i] + 34))->source = htons(first + (flow + i) % flows);
    }
    int done = sendmmsg(s, messages, batch, 0);
    if (done < 0 && ++refused > 1000) die("sendmmsg");
    if (done < 0) continue;
    sent += done;
    flow += done;
  }
  printf("%.1f\n", (double)(now_ns(CLOCK_MONOTONIC) - start) / sent);
}
