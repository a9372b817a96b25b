// Whole folders of Sigma rules: how many come over, what is refused and why, and whether each means the same.
#include <gmock/gmock.h>

#include <filesystem>

#include "base/file.h"
#include "sigma/held.h"

namespace daemoneye::sigma {
namespace {

using testing::Held;

struct Folder {
  std::size_t imported = 0;
  std::vector<std::string> refused;    // "file: id: reason"
  std::vector<std::string> never_met;  // rules of which no row was found
  Held held;

  [[nodiscard]] double share() const {
    return static_cast<double>(imported) / static_cast<double>(imported + refused.size());
  }
};

Folder import_folder(const std::string& path) {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(path)) {
    const auto extension = entry.path().extension();
    if (extension == ".yml" || extension == ".yaml") files.push_back(entry.path().string());
  }
  std::ranges::sort(files);
  Folder folder;
  testing::Rows rows;
  for (const auto& file : files) {
    SCOPED_TRACE(file);
    const auto text = base::read_file(file, max_file_bytes);
    if (!text) {
      ADD_FAILURE() << text.error().message;
      continue;
    }
    const auto name = std::filesystem::path(file).filename().string();
    const auto outcomes = translate(*text, name);
    const auto documents =
        outcomes.empty() || outcomes.front() || outcomes.size() > 1 ? YAML::LoadAll(*text) : std::vector<YAML::Node>();
    for (std::size_t i = 0; i < outcomes.size(); ++i) {
      if (!outcomes[i]) {
        folder.refused.push_back(name + ": " + outcomes[i].error().id + ": " + outcomes[i].error().reason);
        continue;
      }
      ++folder.imported;
      auto held = testing::hold(rows, documents[i], outcomes[i]->yaml, static_cast<unsigned>(folder.imported));
      for (auto* const list : {&held.not_decided, &held.not_asked}) {
        for (auto& branch : *list) branch.insert(0, name + ": " + outcomes[i]->id + ": ");
      }
      if (held.rows_found == 0) folder.never_met.push_back(name + ": " + outcomes[i]->id);
      folder.held += held;
    }
  }
  return folder;
}

// Rules of our own, of each form that the public repository's Linux rules have.
TEST(SigmaFolder, ComesOverAndMeansTheSame) {
  const auto folder = import_folder(testing::data + "folder");
  EXPECT_GE(folder.share(), 0.97) << folder.imported;
  EXPECT_THAT(folder.refused, ::testing::ElementsAre(
                                  "windows.yml: 5e1a0000-0000-4000-8000-000000000041: the field OriginalFileName has "
                                  "no column: the version resource of a Windows executable is not recorded"));
  EXPECT_THAT(folder.never_met, ::testing::IsEmpty());
  EXPECT_THAT(folder.held.not_decided, ::testing::IsEmpty()) << "a branch that no row was seen to hit and to miss";
  EXPECT_THAT(folder.held.not_asked, ::testing::IsEmpty());
  EXPECT_GT(folder.held.branches, 180U);
}

// Another folder, a copy of the public repository say, when one is named:
// DE_SIGMA_RULES=FOLDER build/dev/bin/sigma_test --gtest_filter=SigmaFolder.*
TEST(SigmaFolder, ThatIsNamedMeansTheSame) {
  const char* path = std::getenv("DE_SIGMA_RULES");
  if (path == nullptr) GTEST_SKIP() << "DE_SIGMA_RULES names no folder of Sigma rules";
  const auto folder = import_folder(path);
  for (const auto& [what, list] : {std::pair{"refused", &folder.refused},
                                   {"never met", &folder.never_met},
                                   {"not decided", &folder.held.not_decided},
                                   {"not asked for", &folder.held.not_asked}}) {
    for (const auto& one : *list) std::printf("%s: %s\n", what, one.c_str());
  }
  std::printf(
      "imported %zu, refused %zu (%.1f %% came over); %zu branches, %zu of them not decided; rows found %zu, not "
      "found %zu\n",
      folder.imported, folder.refused.size(), 100 * folder.share(), folder.held.branches,
      folder.held.not_decided.size(), folder.held.rows_found, folder.held.rows_not_found);
  EXPECT_GE(folder.share(), 0.97);
}

}  // namespace
}  // namespace daemoneye::sigma
