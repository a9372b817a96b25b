/*
 * storm-child RUN SEQUENCE LIFE_MS …: lives for LIFE_MS milliseconds and exits with SEQUENCE modulo 100. Without a C
 * library, so that starting it costs little more than what the kernel does.
 */
#include <asm/unistd.h>

struct timespec {
  long seconds, nanoseconds;
};

static long system_call(long number, const void* first, const void* second) {
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(first), "S"(second) : "rcx", "r11", "memory");
  return result;
}

static long number_of(const char* text) {
  long number = 0;
  while (text && *text >= '0' && *text <= '9') number = number * 10 + (*text++ - '0');
  return number;
}

__attribute__((noreturn, used)) static void child(const long* stack) {
  const char* const* arguments = (const char* const*)(stack + 1);
  const long count = stack[0];
  const long life = count > 3 ? number_of(arguments[3]) : 0;
  if (life > 0) {
    struct timespec wait = {life / 1000, life % 1000 * 1000000};
    system_call(__NR_nanosleep, &wait, 0);
  }
  const long code = count > 2 ? number_of(arguments[2]) % 100 : 0;
  for (;;) system_call(__NR_exit_group, (const void*)code, 0);
}

__asm__(
    ".globl _start\n"
    "_start:\n"
    "  xor %ebp, %ebp\n"
    "  mov %rsp, %rdi\n"
    "  and $-16, %rsp\n"
    "  call child\n");
