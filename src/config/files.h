// Which files make up the configuration, and whether a privileged start may believe them.
#pragma once

#include <string>
#include <vector>

#include "config/config.h"

namespace daemoneye::config {

struct FileText {
  std::string path;
  std::string text;
  bool of_user = false;
};

// The file layers that exist, weakest first.
std::vector<FileText> read_files(const Sources& sources, std::vector<std::string>& notices,
                                 std::vector<Problem>& problems);

// The bundle's fragment, when it is there.
std::vector<FileText> read_fragment(const std::string& path, const Sources& sources, std::vector<std::string>& notices,
                                    std::vector<Problem>& problems);

// Why others than root could change what is read from `path`: the file, or a folder on the way to it; empty: they
// cannot.
std::string writable_by_others(const std::string& path);

}  // namespace daemoneye::config
