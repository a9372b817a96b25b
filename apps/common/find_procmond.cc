#include "common/find_procmond.h"

#include <unistd.h>

#include <filesystem>

namespace daemoneye::apps {

Result<std::string> find_procmond() {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return fail(Errc::io, "/proc/self/exe: " + error.message());
  for (const auto& candidate :
       {self.parent_path() / "procmond", self.parent_path().parent_path() / "lib/daemoneye/procmond"}) {
    if (::access(candidate.c_str(), X_OK) == 0) return candidate.string();
  }
  return fail(Errc::not_found, "procmond is neither beside " + self.string() + " nor in ../lib/daemoneye");
}

}  // namespace daemoneye::apps
