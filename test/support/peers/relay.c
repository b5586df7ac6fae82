/*
 * A process that calls the agent on behalf of a test and can then become something else.
 *
 *   relay LISTEN AGENT      connects to AGENT, takes one connection on LISTEN and passes bytes between
 *
 * Lines on standard input, each answered by one line on standard output:
 *   exec PATH     becomes the program at PATH, a copy of this one, with its connections open
 *   handover      forks; the child goes on and the parent ends
 *   setuid N      takes user and group N
 */
#define _GNU_SOURCE
#include <errno.h>
#include <grp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int commands = 0, listener = -1, client = -1, agent = -1, orphan = 0;

static void say(const char *word) {
  printf("%s %d\n", word, getpid());
  fflush(stdout);
}

static void must(int result, const char *what) {
  if (result >= 0) return;
  fprintf(stderr, "relay: %s: %s\n", what, strerror(errno));
  exit(1);
}

static struct sockaddr_un address(const char *path) {
  struct sockaddr_un at = {.sun_family = AF_UNIX};
  strncpy(at.sun_path, path, sizeof at.sun_path - 1);
  return at;
}

static void run(char *line) {
  char *argument = strchr(line, ' ');
  if (argument) *argument++ = 0;
  if (!strcmp(line, "exec")) {
    char l[12], c[12], a[12];
    snprintf(l, sizeof l, "%d", listener);
    snprintf(c, sizeof c, "%d", client);
    snprintf(a, sizeof a, "%d", agent);
    execl(argument, argument, "--resume", l, c, a, (char *)0);
    must(-1, "exec");
  } else if (!strcmp(line, "handover")) {
    pid_t parent = getpid(), child = fork();
    must(child, "fork");
    if (child > 0) _exit(0);
    while (getppid() == parent) usleep(1000);
    orphan = 1;
    say("handover");
  } else if (!strcmp(line, "setuid")) {
    int id = atoi(argument);
    must(setgroups(0, 0), "setgroups");
    must(setgid(id), "setgid");
    must(setuid(id), "setuid");
    say("setuid");
  }
}

static void pass(int *from, int *to) {
  char bytes[65536];
  ssize_t count = read(*from, bytes, sizeof bytes);
  if (count <= 0) {
    close(*from);
    if (*to >= 0) shutdown(*to, SHUT_WR);
    *from = -1;
    return;
  }
  for (ssize_t sent = 0; sent < count && *to >= 0;) {
    ssize_t step = write(*to, bytes + sent, count - sent);
    if (step < 0) break;
    sent += step;
  }
}

int main(int count, char **arguments) {
  if (count == 5 && !strcmp(arguments[1], "--resume")) {
    listener = atoi(arguments[2]);
    client = atoi(arguments[3]);
    agent = atoi(arguments[4]);
    say("exec");
  } else {
    struct sockaddr_un to = address(arguments[2]), at = address(arguments[1]);
    must(agent = socket(AF_UNIX, SOCK_STREAM, 0), "socket");
    must(connect(agent, (struct sockaddr *)&to, sizeof to), "connect");
    must(listener = socket(AF_UNIX, SOCK_STREAM, 0), "socket");
    must(bind(listener, (struct sockaddr *)&at, sizeof at), "bind");
    must(listen(listener, 8), "listen");
    say("ready");
  }
  char line[4096];
  size_t length = 0;
  for (;;) {
    struct pollfd watched[] = {
        {commands, POLLIN, 0}, {client < 0 ? listener : -1, POLLIN, 0}, {client, POLLIN, 0}, {client < 0 ? -1 : agent, POLLIN, 0}};
    if (poll(watched, 4, -1) < 0) continue;
    if (watched[0].revents) {
      if (read(0, line + length, 1) <= 0) {
        /* Whoever started this process no longer speaks to the one that came of it. */
        if (!orphan) return 0;
        commands = -1;
      } else if (line[length] == '\n') {
        line[length] = 0;
        length = 0;
        run(line);
      } else if (length < sizeof line - 1) {
        length++;
      }
    }
    if (watched[1].revents) client = accept(listener, 0, 0);
    if (watched[2].revents) pass(&client, &agent);
    if (watched[3].revents) pass(&agent, &client);
    if (agent < 0) return 0;
  }
}
