#include <sys/prctl.h>

#include <cerrno>

#include "sandbox/mechanisms.h"

namespace daemoneye::sandbox {

Result<void> set_no_new_privs() {
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return fail_errno("prctl(PR_SET_NO_NEW_PRIVS)", errno);
  return {};
}

Result<bool> has_no_new_privs() {
  const int value = ::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
  if (value < 0) return fail_errno("prctl(PR_GET_NO_NEW_PRIVS)", errno);
  return value == 1;
}

}  // namespace daemoneye::sandbox
