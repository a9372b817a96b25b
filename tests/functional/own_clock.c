// The wall clock of the programs that this is loaded into (LD_PRELOAD), and of no other on the machine: the true one
// and as many nanoseconds as stand in the file $DE_CLOCK_OFFSET, which may change at any time.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t* offset;
static int (*true_clock)(clockid_t, struct timespec*);

// Before the program gives up its rights to open and to look for anything.
__attribute__((constructor)) static void begin(void) {
  true_clock = (int (*)(clockid_t, struct timespec*))dlsym(RTLD_NEXT, "clock_gettime");
  const char* path = getenv("DE_CLOCK_OFFSET");
  const int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  void* page = mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, fd, 0);
  if (page != MAP_FAILED) offset = page;
  close(fd);
}

int clock_gettime(clockid_t clock, struct timespec* time) {
  if (true_clock == NULL) begin();  // of a library that is set up before this one
  const int answer = true_clock(clock, time);
  if (answer != 0 || offset == NULL || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) return answer;
  const int64_t second = 1000000000, all = time->tv_sec * second + time->tv_nsec + *offset;
  time->tv_sec = all / second;
  time->tv_nsec = all % second;
  return 0;
}

int gettimeofday(struct timeval* restrict time, void* restrict zone) {
  struct timespec now;
  (void)zone;
  if (clock_gettime(CLOCK_REALTIME, &now) != 0) return 0;
  time->tv_sec = now.tv_sec;
  time->tv_usec = now.tv_nsec / 1000;
  return 0;
}

time_t time(time_t* result) {
  struct timespec now;
  if (clock_gettime(CLOCK_REALTIME, &now) != 0) return -1;
  if (result != NULL) *result = now.tv_sec;
  return now.tv_sec;
}
