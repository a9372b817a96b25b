#include "config/files.h"

#include <dirent.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <memory>

#include "base/file.h"
#include "config/yaml.h"

extern char** environ;

namespace daemoneye::config {
namespace {

constexpr std::size_t max_files_in_folder = 256;

bool exists(const std::string& path) {
  struct stat status{};
  return ::stat(path.c_str(), &status) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

// Read at its place, or given in its stead.
bool exists(const std::string& path, const Sources& sources) { return sources.instead.contains(path) || exists(path); }

bool out_of_reach(const std::string& path) {
  struct stat status{};
  return ::stat(path.c_str(), &status) != 0 && (errno == EACCES || errno == EPERM);
}

// Appends the file's text; what keeps it out becomes a notice or a problem.
void read_one(const std::string& path, const Sources& sources, bool named, std::vector<FileText>& files,
              std::vector<std::string>& notices, std::vector<Problem>& problems) {
  if (sources.privileged) {
    if (const auto why = writable_by_others(path); !why.empty()) {
      // To run on defaults in place of the file that was asked for would be a surprise; not to run is none.
      if (named)
        problems.push_back({path, "", "not read by a privileged start: " + why});
      else
        notices.push_back(path + " is ignored by a privileged start: " + why);
      return;
    }
  }
  if (const auto given = sources.instead.find(path); given != sources.instead.end()) {
    files.push_back({path, given->second, false});
    return;
  }
  struct stat status{};
  if (::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) {
    problems.push_back({path, "", "is a folder, not a file"});
    return;
  }
  auto text = base::read_file(path, max_file_bytes);
  if (text)
    files.push_back({path, std::move(*text), false});
  else
    problems.push_back({path, "", text.error().message});
}

void read_folder(const std::string& folder, const Sources& sources, std::vector<FileText>& files,
                 std::vector<std::string>& notices, std::vector<Problem>& problems) {
  const std::unique_ptr<DIR, int (*)(DIR*)> handle(::opendir(folder.c_str()), ::closedir);
  if (handle == nullptr && errno != ENOENT) {
    problems.push_back({folder, "", fail_errno("cannot be listed", errno).error().message});
    return;
  }
  const std::string inside = folder + '/';
  std::vector<std::string> names;
  for (const auto& [path, text] : sources.instead) {
    const bool within = path.starts_with(inside) && path.find('/', inside.size()) == std::string::npos;
    if (within && !exists(path)) names.push_back(path.substr(inside.size()));
  }
  while (const dirent* entry = handle ? ::readdir(handle.get()) : nullptr) {  // NOLINT(concurrency-mt-unsafe): ours
    const std::string name = entry->d_name;
    if (name.starts_with('.')) continue;
    if (name.ends_with(".yaml"))
      names.push_back(name);
    else if (name.ends_with(".yml"))
      notices.push_back(inside + name + " is ignored: only *.yaml is read");
  }
  std::ranges::sort(names);
  if (names.size() > max_files_in_folder) {
    problems.push_back({folder, "", "holds more than " + std::to_string(max_files_in_folder) + " files"});
    return;
  }
  for (const auto& name : names) read_one(inside + name, sources, false, files, notices, problems);
}

std::string objection(const std::string& path, const struct stat& status, const char* what) {
  const bool sticky = S_ISDIR(status.st_mode) && (status.st_mode & S_ISVTX) != 0;
  if (status.st_uid != 0) return std::string(what) + path + " belongs to uid " + std::to_string(status.st_uid);
  // In a sticky folder others cannot replace what is root's.
  if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0 && !sticky) {
    return std::string(what) + path + " can be written by others than root";
  }
  return {};
}

}  // namespace

std::string writable_by_others(const std::string& path) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) return {};  // reading it will say what is wrong
  if (auto why = objection(path, status, "the file "); !why.empty()) return why;
  char resolved[PATH_MAX];
  if (::realpath(path.c_str(), resolved) == nullptr) return "its path cannot be followed";
  // The way as it was given counts too: a link in a folder of others can be turned elsewhere.
  for (std::string way : {std::string(resolved), path}) {
    while (true) {
      const auto slash = way.rfind('/');
      if (slash == std::string::npos) break;
      way.resize(slash == 0 ? 1 : slash);
      if (::stat(way.c_str(), &status) != 0) return "the folder " + way + " cannot be examined";
      if (auto why = objection(way, status, "the folder "); !why.empty()) return why;
      if (way == "/") break;
    }
  }
  return {};
}

std::vector<FileText> read_files(const Sources& sources, std::vector<std::string>& notices,
                                 std::vector<Problem>& problems) {
  std::vector<FileText> files;
  if (sources.config_file) {
    read_one(*sources.config_file, sources, true, files, notices, problems);
    return files;
  }
  if (const auto main = sources.etc + "/config.yaml"; exists(main, sources)) {
    read_one(main, sources, false, files, notices, problems);
  }
  read_folder(sources.etc + "/config.d", sources, files, notices, problems);
  if (const auto user = user_file_of(sources); !user.empty()) {
    const auto system = files.size();
    if (sources.at_start && out_of_reach(user)) {
      if (const auto& text = sources.at_start->user_file) {
        files.push_back({user, *text, false});
        notices.push_back(user + " cannot be read without privileges: it counts as it was at the start");
      }
    } else if (exists(user, sources)) {
      read_one(user, sources, false, files, notices, problems);
    }
    if (files.size() > system) files.back().of_user = true;
  }
  return files;
}

std::string user_file_of(const Sources& sources) {
  return sources.home.empty() ? "" : sources.home + "/.config/daemoneye/config.yaml";
}

std::vector<FileText> read_fragment(const std::string& path, const Sources& sources, std::vector<std::string>& notices,
                                    std::vector<Problem>& problems) {
  std::vector<FileText> files;
  if (exists(path)) read_one(path, sources, false, files, notices, problems);
  return files;
}

Sources sources_from_process(std::optional<std::string> config_file, std::vector<std::string> set) {
  Sources sources;
  sources.config_file = std::move(config_file);
  sources.set = std::move(set);
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const auto equals = text.find('=');
    if (equals == std::string_view::npos) continue;
    // The first of two equal names is the one getenv() gives.
    sources.environment.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  sources.privileged = ::geteuid() == 0;
  // As the agent's unit starts it: not root, and yet the system's own.
  const auto folder = sources.environment.find("STATE_DIRECTORY");
  sources.system_paths = folder != sources.environment.end() && folder->second == system_state_folder;
  sources.terminal = ::isatty(STDERR_FILENO) == 1;
  if (const auto home = sources.environment.find("HOME"); home != sources.environment.end()) {
    sources.home = home->second;
  } else {
    passwd record{};
    passwd* found = nullptr;
    char buffer[4096];
    if (::getpwuid_r(::geteuid(), &record, buffer, sizeof buffer, &found) == 0 && found != nullptr) {
      sources.home = found->pw_dir;
    }
  }
  if (sources.privileged) {
    sources.at_start.emplace();
    if (const auto user = user_file_of(sources); !user.empty() && exists(user) && writable_by_others(user).empty()) {
      if (auto text = base::read_file(user, max_file_bytes)) sources.at_start->user_file = std::move(*text);
    }
  }
  return sources;
}

}  // namespace daemoneye::config
