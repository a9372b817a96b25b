/*
 * Starts many short processes, each with arguments that tell which it is, and says what they cost.
 *
 *   storm RUN COUNT [RATE] [LIFE_MS] [JOBS]     RATE a second, 0: as fast as possible (JOBS: one a processor)
 *   storm RUN COUNT hold                        all sleep until standard input ends; "ready" when all were started
 *
 * Process number N (from 0) is `storm-child RUN N LIFE_MS [payload…]`, beside this program, and exits with N % 100. The
 * payload depends on N % 8 alone: tests/functional/storm.py has the same list.
 *
 * Prints one JSON object: started, wall_s, user_s and system_s (of this program and all its children, including what
 * the kernel did in their name), and the time from before a process's start to after its end: life_min_us,
 * life_median_us. Each job starts its next process when the one before was reaped.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HOLD_LIFE "2000000000" /* three weeks */

static char long_argument[3001], child_path[4096];
static const char *run, *life = "0";

static void die(const char* what) {
  perror(what);
  exit(1);
}

static long long now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static pid_t start(long number) {
  static const char* const payloads[8][4] = {
      {NULL},
      {"short", NULL},
      {"", "trailing space ", "", NULL},
      {"line\nbreak\ttab", "\x01\x7f", NULL},
      {"\xff\xfe not UTF-8", "gr\xc3\xbc\xc3\x9f", NULL},
      {"\"quoted\" 'text' \\back", "[name] (with) brackets", NULL},
      {long_argument, "after", NULL},
      {"--option=value", "-x", "/usr/share/some/longer/path/of/a/file.txt", NULL},
  };
  char text[24];
  snprintf(text, sizeof text, "%ld", number);
  const char* arguments[9] = {"storm-child", run, text, life};
  memcpy(arguments + 4, payloads[number % 8], sizeof payloads[0]);
  const pid_t pid = vfork();
  if (pid == 0) {
    execve(child_path, (char**)arguments, (char*[]){NULL});
    _exit(127);
  }
  if (pid < 0) die("vfork");
  return pid;
}

/* Every JOBS-th process from FIRST on, each at its time. */
static void job(long first, long jobs, long count, double rate, long long begin, unsigned* lives_us) {
  prctl(PR_SET_TIMERSLACK, 1);
  for (long number = first; number < count; number += jobs) {
    if (rate > 0) {
      const long long due = begin + (long long)((double)number / rate * 1e9);
      if (due > now_ns()) {
        const struct timespec until = {due / 1000000000, due % 1000000000};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) {
        }
      }
    }
    const long long before = now_ns();
    const pid_t pid = start(number);
    int status;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != number % 100) {
      fprintf(stderr, "storm: process %ld ended with %x\n", number, (unsigned)status);
      exit(1);
    }
    lives_us[number] = (unsigned)((now_ns() - before) / 1000);
  }
}

static void hold(long count) {
  life = HOLD_LIFE;
  for (long number = 0; number < count; number++) start(number);
  puts("ready");
  fflush(stdout);
  char byte;
  while (read(0, &byte, 1) > 0) {
  }
  signal(SIGTERM, SIG_IGN);
  kill(0, SIGTERM); /* its own process group */
  while (wait(NULL) > 0) {
  }
}

static int by_size(const void* left, const void* right) {
  const unsigned a = *(const unsigned*)left, b = *(const unsigned*)right;
  return (a > b) - (a < b);
}

int main(int argc, char** argv) {
  if (argc < 3) {
    fprintf(stderr, "storm RUN COUNT [RATE] [LIFE_MS] [JOBS] | storm RUN COUNT hold\n");
    return 2;
  }
  run = argv[1];
  const long count = atol(argv[2]);
  const int holds = argc > 3 && strcmp(argv[3], "hold") == 0;
  const double rate = argc > 3 && !holds ? atof(argv[3]) : 0;
  if (argc > 4) life = argv[4];
  long jobs = argc > 5 ? atol(argv[5]) : sysconf(_SC_NPROCESSORS_ONLN);
  if (count <= 0 || jobs <= 0) return 2;
  memset(long_argument, 'x', sizeof long_argument - 1);
  const ssize_t length = readlink("/proc/self/exe", child_path, sizeof child_path - 16);
  if (length < 0) die("/proc/self/exe");
  child_path[length] = '\0';
  strcpy(strrchr(child_path, '/') + 1, "storm-child");
  if (access(child_path, X_OK) != 0) die(child_path);

  if (holds) {
    setpgid(0, 0);
    hold(count);
    return 0;
  }
  unsigned* lives_us =
      mmap(NULL, (size_t)count * sizeof *lives_us, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (lives_us == MAP_FAILED) die("mmap");
  const long long begin = now_ns();
  for (long first = 0; first < jobs; first++) {
    const pid_t pid = fork();
    if (pid < 0) die("fork");
    if (pid == 0) {
      job(first, jobs, count, rate, begin, lives_us);
      _exit(0);
    }
  }
  int status, failed = 0;
  while (wait(&status) > 0) failed |= status;
  const double wall = (double)(now_ns() - begin) / 1e9;
  struct rusage self, children;
  getrusage(RUSAGE_SELF, &self);
  getrusage(RUSAGE_CHILDREN, &children);
  const double user = (double)(self.ru_utime.tv_sec + children.ru_utime.tv_sec) +
                      (double)(self.ru_utime.tv_usec + children.ru_utime.tv_usec) / 1e6;
  const double system = (double)(self.ru_stime.tv_sec + children.ru_stime.tv_sec) +
                        (double)(self.ru_stime.tv_usec + children.ru_stime.tv_usec) / 1e6;
  qsort(lives_us, (size_t)count, sizeof *lives_us, by_size);
  printf(
      "{\"started\":%ld,\"wall_s\":%.6f,\"user_s\":%.6f,\"system_s\":%.6f,\"life_min_us\":%u,\"life_median_us\":%u}\n",
      count, wall, user, system, lives_us[0], lives_us[count / 2]);
  return failed ? 1 : 0;
}
