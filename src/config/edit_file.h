// A configuration file that is changed as a whole: the old text or the new one, never a part, and never over what
// somebody else wrote meanwhile.
#pragma once

#include <sys/stat.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"

namespace daemoneye::config {

class EditedFile {
 public:
  // Reads the file; one that is not there has an empty text. A link is followed: what it leads to is changed. Refused:
  // what is no plain file, or has more than one name.
  static Result<EditedFile> open(const std::string& path);

  [[nodiscard]] const std::string& text() const { return text_; }
  [[nodiscard]] bool is_new() const { return !status_; }
  // The new text in its place, with the old one's mode, owner and access list; a new file gets `mode_if_new` and its
  // folders `folder_mode_if_new`. Errc::cancelled: the file is another than was read; nothing was changed.
  Result<void> replace(std::string_view text, mode_t mode_if_new = 0644, mode_t folder_mode_if_new = 0755);

 private:
  [[nodiscard]] Result<void> is_unchanged(const std::string& path) const;
  [[nodiscard]] Result<void> swap_in(const std::string& beside) const;

  std::string path_;  // links followed
  std::string text_;
  std::optional<struct stat> status_;
};

// The files that make up the configuration for who runs this: `config set` may write these alone, weakest first.
// `exists`: there now.
struct LayerFile {
  std::string path;
  bool exists = false, of_user = false;
};
std::vector<LayerFile> layer_files(const Sources& sources);

// Which of them a change of `key` belongs into: for root the strongest that has the key, or else the system's file;
// for others their own file; with --config that file. `wanted`: the one that was named (--file), which must be one of
// them.
Result<LayerFile> layer_for(const Sources& sources, const std::string& key, const std::optional<std::string>& wanted);

}  // namespace daemoneye::config
