// The task of every system under test, one process on one thread:
//   tcp/80    HTTP: returns the task's id (meshd's, else the host name, which in a container is its id) and the
//             client's address; keep-alive unless the request closes
//   udp/9000  a sink that is never read: the measurement ends at the socket
//   udp/9002  echo, in batches, so that system calls cost little
//   tcp/5201  reads and discards; tcp/5202 writes as fast as it can (bulk, the two directions)
#include "common.h"
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>

enum { ECHO_BATCH = 1024, MTU = 1500, CHUNK = 128 << 10 };
enum kind { HTTP_LISTEN, SINK_LISTEN, SOURCE_LISTEN, ECHO, HTTP, SINK, SOURCE };

static char host[64], chunk[CHUNK];
static int epoll;

static void watch(int s, enum kind kind, unsigned events) {
  struct epoll_event e = {.events = events, .data.u64 = (unsigned long)kind << 32 | (unsigned)s};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, s, &e)) die("epoll_ctl");
}

static int open_port(int type, int port) {
  int s = socket(AF_INET, type | SOCK_NONBLOCK, 0), one = 1;
  struct sockaddr_in a = endpoint("0.0.0.0", port);
  setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (s < 0 || bind(s, (void *)&a, sizeof a)) {
    fprintf(stderr, "port %d: ", port);
    die("bind");
  }
  if (type == SOCK_STREAM && listen(s, 4096)) die("listen");
  return s;
}

static void accept_all(int listener, enum kind kind) {
  int s, one = 1;
  while ((s = accept4(listener, 0, 0, SOCK_NONBLOCK)) >= 0) {
    setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    watch(s, kind, kind == SOURCE ? EPOLLOUT : EPOLLIN);
  }
}

static void answer_http(int s) {
  char request[8192], body[256], reply[512];
  int length = read(s, request, sizeof request - 1);
  if (length < 0 && errno == EAGAIN) return;
  if (length <= 0) {
    close(s);
    return;
  }
  request[length] = 0;
  struct sockaddr_in peer;
  socklen_t size = sizeof peer;
  getpeername(s, (void *)&peer, &size);
  int ends = strcasestr(request, "connection: close") || strstr(request, "HTTP/1.0");
  int bytes = snprintf(body, sizeof body, "%s %s:%d\n", host, inet_ntoa(peer.sin_addr), ntohs(peer.sin_port));
  bytes = snprintf(reply, sizeof reply, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: %s\r\n\r\n%s", bytes,
                   ends ? "close" : "keep-alive", body);
  if (write(s, reply, bytes) != bytes || ends) close(s);
}

static void echo_batch(int s) {
  static char data[ECHO_BATCH][MTU];
  static struct mmsghdr messages[ECHO_BATCH];
  static struct iovec parts[ECHO_BATCH];
  static struct sockaddr_in peers[ECHO_BATCH];
  for (int i = 0; i < ECHO_BATCH; i++) {
    parts[i] = (struct iovec){data[i], MTU};
    messages[i].msg_hdr = (struct msghdr){.msg_name = &peers[i], .msg_namelen = sizeof peers[i], .msg_iov = &parts[i], .msg_iovlen = 1};
  }
  int got = recvmmsg(s, messages, ECHO_BATCH, MSG_DONTWAIT, 0);
  for (int i = 0; i < got; i++) parts[i].iov_len = messages[i].msg_len;
  for (int done = 0, more; done < got; done += more) {
    more = sendmmsg(s, messages + done, got - done, 0);
    if (more <= 0) return;
  }
}

int main(int argc, char **argv) {
  usage_unless(argc == 1 && argv[0], "serve   (tcp/80 http, udp/9000 sink, udp/9002 echo, tcp/5201 sink, tcp/5202 source)");
  signal(SIGPIPE, SIG_IGN);
  signal(SIGTERM, _exit); // process 1 of a container ignores it by default
  if (getenv("MESH_TASK_ID")) snprintf(host, sizeof host, "%s", getenv("MESH_TASK_ID"));
  else gethostname(host, sizeof host - 1);
  epoll = epoll_create1(0);
  int sink = open_port(SOCK_DGRAM, 9000), small = 4096;
  setsockopt(sink, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
  int echo = open_port(SOCK_DGRAM, 9002);
  buffers(echo, 64 << 20);
  watch(echo, ECHO, EPOLLIN);
  watch(open_port(SOCK_STREAM, 80), HTTP_LISTEN, EPOLLIN);
  watch(open_port(SOCK_STREAM, 5201), SINK_LISTEN, EPOLLIN);
  watch(open_port(SOCK_STREAM, 5202), SOURCE_LISTEN, EPOLLIN);

  struct epoll_event events[64];
  for (;;) {
    int count = epoll_wait(epoll, events, 64, -1);
    for (int i = 0; i < count; i++) {
      int s = (int)(unsigned)events[i].data.u64;
      switch ((enum kind)(events[i].data.u64 >> 32)) {
        case HTTP_LISTEN: accept_all(s, HTTP); break;
        case SINK_LISTEN: accept_all(s, SINK); break;
        case SOURCE_LISTEN: accept_all(s, SOURCE); break;
        case ECHO: echo_batch(s); break;
        case HTTP: answer_http(s); break;
        case SINK: {
          int got = read(s, chunk, CHUNK);
          if (got == 0 || (got < 0 && errno != EAGAIN)) close(s);
          break;
        }
        case SOURCE:
          if (write(s, chunk, CHUNK) < 0 && errno != EAGAIN) close(s);
      }
    }
  }
}
