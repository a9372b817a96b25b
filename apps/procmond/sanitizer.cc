// Of builds with AddressSanitizer alone: no search for leaks at the end. It starts a thread that traces its parent,
// which neither the system call list nor a process that cannot be dumped allows.
#if defined(__SANITIZE_ADDRESS__)
extern "C" const char* __asan_default_options();
extern "C" const char* __asan_default_options() { return "detect_leaks=0"; }  // NOLINT: the sanitizer's name for it
#endif
