#include "bundle/in_force.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "config/config.h"

namespace daemoneye::bundle {
namespace {

using nlohmann::json;

constexpr mode_t folder_mode = 0755, file_mode = 0644;  // the agent reads as another user
constexpr const char *in_force_name = config::bundle_folder_name, *next_name = "next", *lock_name = "lock",
                     *about_name = "bundle.json";
constexpr std::size_t max_about_bytes = std::size_t{8} * 1024 * 1024;

std::unexpected<Error> failed(const std::string& what) { return fail_errno(what, errno); }

Result<void> write_new(int folder, const std::string& name, std::string_view content) {
  const UniqueFd fd(::openat(folder, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, file_mode));
  if (!fd) return failed(name);
  if (::fchmod(fd.get(), file_mode) != 0) return failed(name);  // whatever the umask says
  if (auto written = base::write_all(fd.get(), content); !written) {
    return fail(written.error().code, name + ": " + written.error().message);
  }
  if (::fsync(fd.get()) != 0) return failed(name);
  return {};
}

Result<UniqueFd> open_folder(int at, const std::string& path) {
  UniqueFd fd(::openat(at, path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd && (errno == ELOOP || errno == ENOTDIR)) {
    return fail(Errc::permission_denied, path + ": a link or a file stands where bundles need a folder of their own");
  }
  if (!fd) return failed(path);
  return fd;
}

}  // namespace

std::string InForce::json() const {
  auto decided = nlohmann::json::object();
  for (const auto& [what, choice] : choices) {
    decided[what] = {{"choice", choice.take ? "take" : "keep"}, {"own", choice.own}};
  }
  return nlohmann::json{{"choices", std::move(decided)},      {"digest", digest}, {"id", id},
                        {"imported", base::to_iso(imported)}, {"signer", signer}, {"version", version.text()}}
      .dump(1, ' ', false, nlohmann::json::error_handler_t::replace);
}

Result<InForce> InForce::parse(std::string_view text) {
  const auto all = nlohmann::json::parse(text, nullptr, false);
  const auto bad = [] { return fail(Errc::corrupt, "not what an import leaves"); };
  if (!all.is_object()) return bad();
  for (const auto* key : {"digest", "id", "imported", "signer", "version"}) {
    if (!all.contains(key) || !all[key].is_string()) return bad();
  }
  InForce in_force;
  in_force.digest = all["digest"].get<std::string>();
  in_force.id = all["id"].get<std::string>();
  in_force.signer = all["signer"].get<std::string>();
  DE_CHECK(check_id(in_force.id));
  DE_TRY(in_force.version, Version::parse(all["version"].get_ref<const std::string&>()));
  DE_TRY(in_force.imported, base::parse_iso(all["imported"].get_ref<const std::string&>()));
  if (!all.contains("choices") || !all["choices"].is_object()) return bad();
  for (const auto& [what, choice] : all["choices"].items()) {
    if (!choice.is_object() || !choice.contains("choice") || !choice.contains("own") || !choice["own"].is_string()) {
      return bad();
    }
    in_force.choices[what] = {choice["choice"] == "take", choice["own"].get<std::string>()};
  }
  return in_force;
}

Result<std::optional<InForce>> read_in_force(const std::string& bundle_path) {
  const auto path = bundle_path + '/' + in_force_name + '/' + about_name;
  const auto text = base::read_file(path, max_about_bytes);
  if (!text && text.error().code == Errc::not_found) return std::nullopt;
  if (!text) return fail(text.error().code, text.error().message);
  auto parsed = InForce::parse(*text);
  if (!parsed) return fail(Errc::corrupt, path + ": " + parsed.error().message);
  return std::optional<InForce>(std::move(*parsed));
}

Result<Place> Place::claim(const std::string& bundle_path) {
  Place place;
  place.path_ = bundle_path;
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(bundle_path).parent_path(), error);  // mkdir() says why not
  if (::mkdir(bundle_path.c_str(), folder_mode) == 0) {
    if (::chmod(bundle_path.c_str(), folder_mode) != 0) return failed(bundle_path);
  } else if (errno != EEXIST) {
    return failed(bundle_path);
  }
  DE_TRY(place.folder_, open_folder(AT_FDCWD, bundle_path));
  struct stat status{};
  if (::fstat(place.folder_.get(), &status) != 0) return failed(bundle_path);
  if ((status.st_uid != 0 && status.st_uid != ::geteuid()) || (status.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return fail(Errc::permission_denied, bundle_path + ": others can write it; it must be root's or yours alone");
  }
  place.lock_.reset(::openat(place.folder_.get(), lock_name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!place.lock_) return failed(bundle_path + '/' + lock_name);
  if (::flock(place.lock_.get(), LOCK_EX | LOCK_NB) != 0) {
    return fail(Errc::unavailable, bundle_path + ": another import is under way");
  }
  DE_CHECK(place.remove_folder(next_name));
  DE_TRY(place.had_one_, place.is_there(in_force_name));
  return place;
}

Result<bool> Place::is_there(const char* name) const {
  const auto folder = open_folder(folder_.get(), name);
  if (folder) return true;
  if (folder.error().code == Errc::not_found) return false;
  return fail(folder.error().code, path_ + '/' + folder.error().message);
}

Result<void> Place::remove_folder(const char* name) const {
  const auto folder = open_folder(folder_.get(), name);
  if (!folder && folder.error().code == Errc::not_found) return {};
  if (!folder) return fail(folder.error().code, path_ + '/' + folder.error().message);
  const int copy = ::fcntl(folder->get(), F_DUPFD_CLOEXEC, 0);  // closedir() closes it
  const std::unique_ptr<DIR, int (*)(DIR*)> handle(copy < 0 ? nullptr : ::fdopendir(copy), ::closedir);
  if (handle == nullptr) return failed(path_ + '/' + name);
  while (const dirent* entry = ::readdir(handle.get())) {  // NOLINT(concurrency-mt-unsafe): the handle is ours
    const std::string_view file = entry->d_name;
    if (file == "." || file == "..") continue;
    if (::unlinkat(folder->get(), entry->d_name, 0) != 0) return failed(path_ + '/' + name + '/' + entry->d_name);
  }
  if (::unlinkat(folder_.get(), name, AT_REMOVEDIR) != 0) return failed(path_ + '/' + name);
  return {};
}

Result<void> Place::write_next(const std::vector<PlacedFile>& files) const {
  if (::mkdirat(folder_.get(), next_name, folder_mode) != 0) return failed(path_ + '/' + next_name);
  DE_TRY(const auto next, open_folder(folder_.get(), next_name));
  if (::fchmod(next.get(), folder_mode) != 0) return failed(path_ + '/' + next_name);
  for (const auto& file : files) {
    if (auto written = write_new(next.get(), file.name, file.content); !written) {
      return fail(written.error().code, path_ + '/' + next_name + '/' + written.error().message);
    }
  }
  if (::fsync(next.get()) != 0) return failed(path_ + '/' + next_name);
  return {};
}

Result<void> Place::put(const InForce& what, const std::vector<PlacedFile>& files, const Step& step) {
  const auto reached = [&](const char* name) {
    if (step) step(name);
  };
  DE_CHECK(remove_folder(next_name));
  auto all = files;
  all.push_back({about_name, what.json()});
  reached("begin");
  if (auto written = write_next(all); !written) {
    [[maybe_unused]] const auto removed = remove_folder(next_name);
    return written;
  }
  reached("written");
  DE_TRY(had_one_, is_there(in_force_name));
  const unsigned how = had_one_ ? RENAME_EXCHANGE : RENAME_NOREPLACE;
  if (::renameat2(folder_.get(), next_name, folder_.get(), in_force_name, how) != 0) {
    const auto error = failed(path_ + '/' + in_force_name);
    [[maybe_unused]] const auto removed = remove_folder(next_name);
    return error;
  }
  reached("renamed");
  if (::fsync(folder_.get()) != 0) {
    const auto error = failed(path_);
    [[maybe_unused]] const auto undone = take_back();
    return error;
  }
  return {};
}

Result<void> Place::take_back() {
  const unsigned how = had_one_ ? RENAME_EXCHANGE : RENAME_NOREPLACE;
  if (::renameat2(folder_.get(), in_force_name, folder_.get(), next_name, how) != 0 || ::fsync(folder_.get()) != 0) {
    return failed(path_ + '/' + in_force_name);
  }
  return remove_folder(next_name);
}

void Place::forget_before() {
  // What stays is removed by the next import.
  [[maybe_unused]] const auto removed = remove_folder(next_name);
}

Result<void> write_files(const std::string& folder, const std::vector<PlacedFile>& files) {
  DE_TRY(const auto fd, open_folder(AT_FDCWD, folder));
  for (const auto& file : files) DE_CHECK(write_new(fd.get(), file.name, file.content));
  return {};
}

}  // namespace daemoneye::bundle
