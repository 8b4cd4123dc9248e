/* listener PORT: prints its process number once it listens on every IPv4 address, then responds to every HTTP request. */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv) {
  static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 11\r\nConnection: close\r\n\r\nsshd itself";
  char request[4096];
  int on = 1, server = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argc > 1 ? argv[1] : ""))};
  setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(server, (struct sockaddr *)&address, sizeof address) != 0 || listen(server, 16) != 0) return 1;
  printf("%d\n", getpid());
  fflush(stdout);
  for (int client; (client = accept(server, NULL, NULL)) >= 0; close(client)) {
    if (read(client, request, sizeof request) > 0 && write(client, answer, strlen(answer)) < 0) continue;
  }
  return 1;
}
