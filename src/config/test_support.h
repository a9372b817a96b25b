// What the tests of this room share: a folder that goes away, and a configuration read from texts.
#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "config/config.h"

namespace daemoneye::config {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    char name[] = "/tmp/daemoneye-config-XXXXXX";
    path_ = ::mkdtemp(name);
  }
  ~TemporaryFolder() {
    std::error_code ignored;  // a folder that stays behind is no failure of a test
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }
  // Writes PATH below the folder, with the folders on the way, 0755 and 0644.
  std::string write(const std::string& name, const std::string& text) const {
    const std::filesystem::path path = path_ + '/' + name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
    ::chmod(path.c_str(), 0644);
    return path;
  }

 private:
  std::string path_;
};

// Sources that look at nothing of this machine.
inline Sources no_sources(const TemporaryFolder& folder) {
  Sources sources;
  sources.home = folder.path() + "/home";
  sources.etc = folder.path() + "/etc";
  return sources;
}

inline std::string texts(const std::vector<Problem>& problems) {
  std::string all;
  for (const auto& problem : problems) all += to_string(problem) + '\n';
  return all;
}

}  // namespace daemoneye::config
