// The bundle in force: a folder of its own in `bundle.path`, put in place whole by one rename. Who reads it sees the
// old set or the new one, whenever the machine or the program ends.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "bundle/bundle.h"

namespace daemoneye::bundle {

// What was decided about something that is also set on this machine.
struct Choice {
  bool take = false;  // the bundle's; else the machine's own stays
  std::string own;    // what the machine had then: a digest
};

// Kept beside the files as bundle.json.
struct InForce {
  std::string id, signer;
  Version version;
  std::string digest;  // hexadecimal
  Timestamp imported;
  std::map<std::string, Choice> choices;  // by "rule ID", "configuration KEY"

  [[nodiscard]] std::string json() const;
  static Result<InForce> parse(std::string_view json);
};
// Nothing: none is in force. corrupt: what is there is not what an import leaves.
Result<std::optional<InForce>> read_in_force(const std::string& bundle_path);

struct PlacedFile {
  std::string name;  // in the folder
  std::string content;
};

// The writer of `bundle.path`; one at a time.
class Place {
 public:
  // Makes the folder (0755) where missing; removes what an import that was cut off left aside. permission_denied:
  // others can write it, or it is a link. unavailable: another import is under way.
  static Result<Place> claim(const std::string& bundle_path);

  // All or nothing. Durable when it returns. `step` is told of each step (for tests that end the program there).
  using Step = std::function<void(const char* name)>;
  Result<void> put(const InForce& what, const std::vector<PlacedFile>& files, const Step& step = {});
  // Puts the one before in force again, after put() and as long as forget_before() was not called.
  Result<void> take_back();
  void forget_before();

 private:
  Result<void> remove_folder(const char* name) const;
  Result<void> write_next(const std::vector<PlacedFile>& files) const;
  [[nodiscard]] Result<bool> is_there(const char* name) const;

  std::string path_;
  UniqueFd folder_, lock_;
  bool had_one_ = false;
};

// Writes the files into a folder that is there, for looking at them.
Result<void> write_files(const std::string& folder, const std::vector<PlacedFile>& files);

}  // namespace daemoneye::bundle
