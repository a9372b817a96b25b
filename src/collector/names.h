// Small pieces of knowledge about names: users, executables, containers.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "sensor/source.h"

namespace daemoneye::collector {

// User names by uid from a passwd file, read without NSS (procmond has no network and loads no modules).
class UserNames {
 public:
  explicit UserNames(std::string passwd_path = "/etc/passwd");
  std::optional<std::string> find(std::uint32_t uid) const;
  // Reads the file again when it has changed; then it says so. An unreadable file keeps what was known.
  bool refresh();

 private:
  std::string path_;
  std::int64_t modified_ns_ = -1;
  std::unordered_map<std::uint32_t, std::string> names_;
};

// Base name of the executed file; of a script its own. For kernel threads and nameless processes the comm.
std::string process_name(const sensor::RawProcess& raw);

// The container a cgroup path belongs to: the 64-digit id of docker, containerd, podman, cri-o (cgroupfs and systemd
// forms), the machine name of systemd-nspawn.
std::optional<std::string> container_id(std::string_view cgroup);

}  // namespace daemoneye::collector
