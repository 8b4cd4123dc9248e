/*
 * whoami: a task that answers with its name and the address of the client, as examples/whoami.mjs does: that takes
 * seconds to start in an emulated kernel, this does not.
 *   PORT         TCP port for HTTP with persistent connections, default 80; /?wait=MS answers later
 *   UDP_PORT     UDP port, off by default
 *   FAMILY       4 or 6: listens for IPv4 or IPv6 alone; default both for TCP, IPv4 for UDP
 *   HEALTHY_IN   a directory: /health answers 503 while it has no file SERVICE.SLOT, and HEALTH_PORT is open only while
 *                it has
 * SIGTERM: open requests are finished, new connections have 2 s for theirs, idle ones are closed, no more are accepted.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS = 2048, REQUEST_SIZE = 16384, FIRST = 4, NEVER = -1, FIRST_REQUEST = 2000 };
enum { SIGNAL, HTTP, UDP, HEALTH }; /* places in `polled` before the connections */

struct connection {
  char *request; /* what has arrived of it */
  size_t length;
  long long answer_at; /* in ms, NEVER while the request is not whole */
  int served;          /* it had a request before */
};

static struct pollfd polled[FIRST + CONNECTIONS];
static struct connection connections[FIRST + CONNECTIONS];
static int used = FIRST, ending;
static char self[512], health_file[512];

static long long now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static const char *variable(const char *name, const char *otherwise) {
  const char *value = getenv(name);
  return value ? value : otherwise;
}

static int healthy(void) { return !*health_file || access(health_file, F_OK) == 0; }

/* A socket on every address of a family, 4 or 6; 0 is both. */
static int bind_socket(int type, int family, int port) {
  struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
  struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = four.sin_port};
  struct sockaddr *address = family == 4 ? (void *)&four : (void *)&six;
  int s = socket(address->sa_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1, only = family == 6;
  setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (family != 4) setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only);
  if (bind(s, address, family == 4 ? sizeof four : sizeof six) == 0) return s;
  perror("whoami: bind");
  exit(1);
}

static int listen_on(int port) {
  int s = bind_socket(SOCK_STREAM, atoi(variable("FAMILY", "0")), port);
  if (listen(s, 1024) == 0) return s;
  perror("whoami: listen");
  exit(1);
}

static int bind_udp(int port) { return bind_socket(SOCK_DGRAM, atoi(variable("FAMILY", "4")), port); }

/* The answer to a client; IPv4 clients of a dual-stack socket are shown as such. */
static int sentence(char *text, size_t size, const struct sockaddr_storage *peer) {
  const struct sockaddr_in6 *six = (const void *)peer;
  const struct sockaddr_in *four = (const void *)peer;
  char address[INET6_ADDRSTRLEN];
  int port = ntohs(six->sin6_port); /* at the same place in both */
  if (peer->ss_family == AF_INET) inet_ntop(AF_INET, &four->sin_addr, address, sizeof address);
  else if (IN6_IS_ADDR_V4MAPPED(&six->sin6_addr)) inet_ntop(AF_INET, &six->sin6_addr.s6_addr[12], address, sizeof address);
  else inet_ntop(AF_INET6, &six->sin6_addr, address, sizeof address);
  return snprintf(text, size, "%s sees %s %d\n", self, address, port);
}

static void drop(int at) {
  close(polled[at].fd);
  free(connections[at].request);
  used -= 1;
  polled[at] = polled[used];
  connections[at] = connections[used];
}

static void accept_all(int listener) {
  for (int s; used < FIRST + CONNECTIONS && (s = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0; used++) {
    polled[used] = (struct pollfd){.fd = s, .events = POLLIN};
    connections[used] = (struct connection){.request = malloc(REQUEST_SIZE + 1), .answer_at = NEVER};
  }
}

/* 0 if the connection is over. */
static int answer(int at) {
  struct connection *c = &connections[at];
  struct sockaddr_storage peer;
  socklen_t size = sizeof peer;
  char body[1024], reply[2048];
  if (getpeername(polled[at].fd, (struct sockaddr *)&peer, &size) != 0) return 0;
  int status = strncmp(c->request, "GET /health ", 12) == 0 && !healthy() ? 503 : 200;
  int closes = ending || strcasestr(c->request, "\r\nconnection: close") != NULL;
  int length = sentence(body, sizeof body, &peer);
  int bytes = snprintf(reply, sizeof reply, "HTTP/1.1 %d -\r\nContent-Length: %d\r\nConnection: %s\r\n\r\n%s", status, length,
                       closes ? "close" : "keep-alive", body);
  c->length = 0;
  c->answer_at = NEVER;
  c->served = 1;
  return write(polled[at].fd, reply, (size_t)bytes) == bytes && !closes;
}

/* Reads what has arrived; 0 if the connection is over. Requests have no bodies. */
static int receive(int at) {
  struct connection *c = &connections[at];
  ssize_t bytes = read(polled[at].fd, c->request + c->length, REQUEST_SIZE - c->length);
  if (bytes < 0 && errno == EAGAIN) return 1;
  if (bytes <= 0) return 0;
  c->length += (size_t)bytes;
  c->request[c->length] = 0;
  if (!strstr(c->request, "\r\n\r\n")) return c->length < REQUEST_SIZE;
  const char *line_end = strstr(c->request, "\r\n"), *wait = strstr(c->request, "?wait=");
  c->answer_at = now() + (wait && wait < line_end ? atoi(wait + 6) : 0);
  return 1;
}

static void answer_datagrams(int s) {
  struct sockaddr_storage peer;
  socklen_t size = sizeof peer;
  char text[1024];
  while (recvfrom(s, text, sizeof text, 0, (struct sockaddr *)&peer, &size) >= 0) {
    int length = sentence(text, sizeof text, &peer);
    sendto(s, text, (size_t)length, 0, (struct sockaddr *)&peer, size);
    size = sizeof peer;
  }
}

/* Opens or closes the port that is open only while the health file exists. */
static void follow_health(int port) {
  if (port && healthy() && polled[HEALTH].fd < 0) polled[HEALTH].fd = listen_on(port);
  if (port && !healthy() && polled[HEALTH].fd >= 0) {
    close(polled[HEALTH].fd);
    polled[HEALTH].fd = -1;
  }
}

/* Milliseconds until something is due without an event, or NEVER. */
static int next_due(int health_port) {
  long long due = health_port || ending ? now() + 100 : NEVER;
  for (int i = FIRST; i < used; i++)
    if (connections[i].answer_at != NEVER && (due == NEVER || connections[i].answer_at < due)) due = connections[i].answer_at;
  return due == NEVER ? NEVER : due <= now() ? 0 : (int)(due - now());
}

int main(void) {
  const char *udp_port = getenv("UDP_PORT");
  int health_port = atoi(variable("HEALTH_PORT", "0"));
  long long ended_at = 0;
  sigset_t term;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  sigprocmask(SIG_BLOCK, &term, NULL);
  signal(SIGPIPE, SIG_IGN);
  const char *service = variable("MESH_SERVICE", "-"), *slot = variable("MESH_TASK_SLOT", "-"), *healthy_in = getenv("HEALTHY_IN");
  snprintf(self, sizeof self, "%s.%s %s on %s", service, slot, variable("MESH_TASK_ID", "-"), variable("MESH_NODE", "-"));
  if (healthy_in) snprintf(health_file, sizeof health_file, "%s/%s.%s", healthy_in, service, slot);
  polled[SIGNAL] = (struct pollfd){.fd = signalfd(-1, &term, SFD_CLOEXEC), .events = POLLIN};
  polled[HTTP] = (struct pollfd){.fd = listen_on(atoi(variable("PORT", "80"))), .events = POLLIN};
  polled[UDP] = (struct pollfd){.fd = udp_port ? bind_udp(atoi(udp_port)) : -1, .events = POLLIN};
  polled[HEALTH] = (struct pollfd){.fd = -1, .events = POLLIN};

  for (;;) {
    follow_health(health_port);
    if (poll(polled, (nfds_t)used, next_due(health_port)) < 0) return 1;
    if (polled[SIGNAL].revents && !ending) {
      ending = 1;
      ended_at = now();
      polled[SIGNAL].fd = -1;
      accept_all(polled[HTTP].fd); /* what waits there would be reset */
      close(polled[HTTP].fd);
      polled[HTTP].fd = -1;
    }
    if (polled[UDP].revents) answer_datagrams(polled[UDP].fd);
    if (polled[HEALTH].revents) close(accept(polled[HEALTH].fd, NULL, NULL));
    for (int i = used - 1; i >= FIRST; i--) {
      struct connection *c = &connections[i];
      int open = 1;
      if (polled[i].revents) open = receive(i);
      if (open && c->answer_at != NEVER && c->answer_at <= now()) open = answer(i);
      int idle = c->answer_at == NEVER && c->length == 0 && (c->served || now() - ended_at > FIRST_REQUEST);
      if (!open || (ending && idle)) drop(i);
    }
    if (polled[HTTP].fd >= 0 && polled[HTTP].revents) accept_all(polled[HTTP].fd);
    if (ending && used == FIRST) return 0;
  }
}
