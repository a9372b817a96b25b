// What a bundle may be: each way to be a wrong one is tried, most of them behind a signature that holds.
#include "bundle/bundle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "config/yaml.h"
#include "detect/rule.h"

namespace daemoneye::bundle {
namespace {

using nlohmann::json;
using testing::HasSubstr;

constexpr Timestamp noon{1'700'000'000'000'000'000};

const ledger::PrivateKey& key() {
  static const auto made = ledger::PrivateKey::generate("vendor").value();
  return made;
}

Manifest about() {
  Manifest manifest;
  manifest.id = "base-rules";
  manifest.version = Version::parse("1.2").value();
  manifest.created = noon;
  return manifest;
}

std::vector<File> some_files() {
  return {{"rules/b.yaml", "id: b\n"},
          {"config.yaml", "logging: {level: warn}\n"},
          {"rules/a.yaml", "id: a\n"},
          {"exceptions/site.exceptions.yaml", "exceptions: []\n"}};
}

std::string good() { return make(about(), some_files(), key()).value(); }

// A bundle with this manifest, signed as it should be: what a stolen key or a careless maker could sign.
std::string signed_over(const std::string& manifest, const std::string& contents) {
  ledger::Note note{.text = note_text(base::sha256(manifest)), .signatures = {}};
  EXPECT_TRUE(note.sign(key()));
  const auto bytes = note.bytes();
  return join({bytes, manifest, contents});
}

json manifest_of(const std::vector<std::pair<std::string, std::string>>& files) {
  json list = json::array();
  for (const auto& [path, content] : files) {
    list.push_back({{"path", path}, {"length", content.size()}, {"sha256", base::to_hex(base::sha256(content))}});
  }
  return {{"id", "x"}, {"version", "1"}, {"created", base::to_iso(noon)}, {"files", std::move(list)}};
}

Error refusal(const std::string& bytes, const std::vector<ledger::PublicKey>& trusted = {key().public_key()},
              Timestamp now = noon) {
  const auto opened = open(bytes, trusted, now);
  EXPECT_FALSE(opened) << "it was taken";
  return opened ? Error{} : opened.error();
}

void expect_refusal(const std::string& bytes, Errc code, const std::string& message) {
  const auto error = refusal(bytes);
  EXPECT_EQ(error.code, code) << error.message;
  EXPECT_THAT(error.message, HasSubstr(message));
}

TEST(Bundle, ComesBackAsItWasMade) {
  const auto opened = open(good(), {ledger::PrivateKey::generate("other")->public_key(), key().public_key()}, noon);
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(opened->manifest.id, "base-rules");
  EXPECT_EQ(opened->manifest.version.text(), "1.2");
  EXPECT_EQ(opened->signer, key().public_key().text());
  ASSERT_EQ(opened->files.size(), 4U);
  EXPECT_EQ(opened->files[0].path, "config.yaml");
  EXPECT_EQ(opened->files[2].path, "rules/a.yaml");
  EXPECT_EQ(opened->files[2].content, "id: a\n");
  EXPECT_EQ(good(), good()) << "the same files and key make the same bundle";
}

TEST(Bundle, IsRefusedUnsigned) {
  const auto bytes = good();
  const auto parts = split(bytes).value();
  expect_refusal(join({{}, parts.manifest, parts.contents}), Errc::corrupt, "the bundle is not signed");
}

TEST(Bundle, IsRefusedFromAKeyThatIsNotTrusted) {
  const auto error = refusal(good(), {ledger::PrivateKey::generate("vendor")->public_key()});
  EXPECT_EQ(error.code, Errc::corrupt);
  EXPECT_THAT(error.message, HasSubstr("is signed by vendor+" + key().public_key().id() + ", which is not trusted"));
  EXPECT_THAT(refusal(good(), {}).message, HasSubstr("not trusted"));
}

TEST(Bundle, IsRefusedWronglySigned) {
  const auto bytes = good();
  const auto parts = split(bytes).value();
  auto note = ledger::Note::parse(parts.note).value();
  note.signatures.front().signature[10] ^= 1;
  const auto wrong = note.bytes();
  expect_refusal(join({wrong, parts.manifest, parts.contents}), Errc::corrupt, "signature by vendor+");
  expect_refusal(join({"no note", parts.manifest, parts.contents}), Errc::corrupt, "signature is damaged");
  // A signature of the same key over something else: over another bundle, or over a checkpoint of a ledger.
  for (const std::string& text : {note_text(base::sha256("other")), std::string("vendor\n7\nAAAA\n")}) {
    ledger::Note other{.text = text, .signatures = {}};
    ASSERT_TRUE(other.sign(key()));
    const auto other_bytes = other.bytes();
    expect_refusal(join({other_bytes, parts.manifest, parts.contents}), Errc::corrupt, "not the one that was signed");
  }
}

TEST(Bundle, IsRefusedExpired) {
  auto manifest = about();
  manifest.expires = noon;
  const auto bytes = make(manifest, some_files(), key()).value();
  const auto error = refusal(bytes);
  EXPECT_EQ(error.code, Errc::corrupt);
  EXPECT_EQ(error.message, "the bundle expired at " + base::to_iso(noon));
  EXPECT_TRUE(open(bytes, {key().public_key()}, Timestamp{noon.ns - 1}));
}

TEST(Bundle, IsRefusedWhereverAByteWasAltered) {
  const auto bytes = good();
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    auto altered = bytes;
    altered[i] = static_cast<char>(altered[i] ^ 1);
    EXPECT_FALSE(open(altered, {key().public_key()}, noon)) << "byte " << i;
  }
  auto content = bytes;
  content[content.size() - 2] = 'X';
  expect_refusal(content, Errc::corrupt, "rules/b.yaml was altered");
}

TEST(Bundle, IsRefusedCutOffOrWithMoreBehind) {
  const auto bytes = good();
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(open(bytes.substr(0, size), {key().public_key()}, noon)) << size;
  }
  expect_refusal(bytes.substr(0, bytes.size() - 1), Errc::corrupt, "cut off in rules/b.yaml");
  expect_refusal(bytes.substr(0, 12), Errc::corrupt, "cut off");
  expect_refusal(bytes + "x", Errc::corrupt, "bytes that its manifest does not know");
  expect_refusal("id: a\n", Errc::invalid_input, "not a bundle");
}

TEST(Bundle, IsRefusedWithPathsThatLeadElsewhere) {
  const struct {
    std::string path, why;
  } cases[] = {{"../rules/a.yaml", "leads out"},
               {"rules/../../etc/passwd.yaml", "leads out"},
               {"rules/..", "leads out"},
               {"/etc/daemoneye/rules.d/a.yaml", "is absolute"},
               {std::string("rules/a.yaml\0.txt", 17), "holds a NUL"},
               {"rules/sub/a.yaml", "is none that a bundle has"},
               {"rules/.a.yaml", "is none that a bundle has"},
               {"rules/a.yaml/", "is none that a bundle has"},
               {"rules/a\\b.yaml", "is none that a bundle has"},
               {"rules/a\nb.yaml", "is none that a bundle has"},
               {"rules/a.exceptions.yaml", "is none that a bundle has"},
               {"exceptions/a.yaml", "is none that a bundle has"},
               {"exceptions/.exceptions.yaml", "is none that a bundle has"},
               {"config.yaml/", "is none that a bundle has"},
               {"bundle.json", "is none that a bundle has"},
               {"current", "is none that a bundle has"},
               {"", "is none that a bundle has"},
               {"rules/" + std::string(200, 'a') + ".yaml", "is longer than 128 bytes"}};
  for (const auto& [path, why] : cases) {
    expect_refusal(signed_over(manifest_of({{path, "x"}}).dump(), "x"), Errc::invalid_input, why);
    EXPECT_FALSE(make(about(), {{path, "x"}}, key())) << path << ": nor is it made";
  }
}

TEST(Bundle, IsRefusedWithAPathTwice) {
  expect_refusal(signed_over(manifest_of({{"rules/a.yaml", "x"}, {"rules/a.yaml", "y"}}).dump(), "xy"),
                 Errc::invalid_input, "'rules/a.yaml' comes twice");
  EXPECT_FALSE(make(about(), {{"rules/a.yaml", "x"}, {"rules/a.yaml", "y"}}, key()));
  expect_refusal(signed_over(manifest_of({{"rules/b.yaml", "x"}, {"rules/a.yaml", "y"}}).dump(), "xy"),
                 Errc::invalid_input, "order of their paths");
}

TEST(Bundle, IsRefusedOversized) {
  const std::string large(detect::max_rule_file_bytes + 1, ' ');
  expect_refusal(signed_over(manifest_of({{"rules/a.yaml", large}}).dump(), large), Errc::invalid_input,
                 "claims 262145 bytes; at most 262144");
  EXPECT_FALSE(make(about(), {{"rules/a.yaml", large}}, key()));
  EXPECT_FALSE(make(about(), {{"config.yaml", std::string(config::max_file_bytes + 1, ' ')}}, key()));
  expect_refusal(std::string(magic) + std::string(max_bundle_bytes, ' '), Errc::invalid_input,
                 "is larger than 67108864");
  json many = json::array();
  const auto digest = base::to_hex(base::sha256(""));
  for (std::size_t i = 0; i <= max_files; ++i) {
    many.push_back({{"path", "rules/" + std::to_string(100'000 + i) + ".yaml"}, {"length", 0}, {"sha256", digest}});
  }
  auto manifest = manifest_of({});
  manifest["files"] = many;
  expect_refusal(signed_over(manifest.dump(), ""), Errc::invalid_input, "10001 files; allowed: 1 to 10000");
  expect_refusal(signed_over(manifest_of({}).dump(), ""), Errc::invalid_input, "0 files");
}

// A small file that would become a large one. Nothing is unpacked, and no claim is believed.
TEST(Bundle, IsRefusedWhenItWouldGrow) {
  for (const auto* packed : {"\x1f\x8b\x08", "PK\x03\x04", "\x28\xb5\x2f\xfd", "BZh9"}) {
    expect_refusal(std::string(packed) + std::string(100, '\0'), Errc::invalid_input, "none is unpacked");
  }
  std::string claims(magic);
  claims += std::string("\xff\xff\xff\xff\xff\xff\xff\xff", 8);
  expect_refusal(claims, Errc::invalid_input, "claims a signature of 4294967295 bytes");
  auto manifest = manifest_of({{"rules/a.yaml", "x"}});
  manifest["files"][0]["length"] = std::uint64_t{1} << 60;
  expect_refusal(signed_over(manifest.dump(), "x"), Errc::invalid_input, "claims 1152921504606846976 bytes");
  // Nested deeper than any stack, and one name a thousand times.
  expect_refusal(signed_over(std::string(1'000'000, '['), ""), Errc::invalid_input, "not a JSON object");
}

TEST(Bundle, IsRefusedWithAManifestThatSaysMoreOrLess) {
  const auto refuse = [](const std::string& key_name, const json& value, const std::string& why) {
    auto manifest = manifest_of({{"rules/a.yaml", "x"}});
    if (value.is_null())
      manifest.erase(key_name);
    else
      manifest[key_name] = value;
    expect_refusal(signed_over(manifest.dump(), "x"), Errc::invalid_input, why);
  };
  refuse("hooks", "rm -rf /", "unknown key 'hooks'");
  refuse("id", nullptr, "id is missing");
  refuse("id", "../x", "id: found '../x'");
  refuse("id", 5, "of the wrong type");
  refuse("version", "1.-2", "version: found '1.-2'");
  refuse("created", "yesterday", "created: not a moment");
  refuse("expires", 7, "expires: not a text");
  refuse("description", "", "description: empty");
  refuse("files", json::object(), "of the wrong type");
  auto twice = manifest_of({{"rules/a.yaml", "x"}}).dump();
  twice.insert(1, R"("id":"y",)");
  expect_refusal(signed_over(twice, "x"), Errc::invalid_input, "canonical form");
  expect_refusal(signed_over(manifest_of({{"rules/a.yaml", "x"}}).dump(1), "x"), Errc::invalid_input, "canonical form");
}

TEST(Versions, AreComparedNumberByNumber) {
  const auto version = [](const char* text) { return Version::parse(text).value(); };
  EXPECT_TRUE(version("1.9").is_before(version("1.10")));
  EXPECT_TRUE(version("1").is_before(version("1.0.1")));
  EXPECT_TRUE(version("1").is_same_as(version("1.0")));
  EXPECT_FALSE(version("2").is_before(version("1.9.9.9")));
  for (const auto* bad : {"", ".", "1.", "1..2", "v1", "01", "1.2.3.4.5", "1-2", "99999999999", " 1"}) {
    EXPECT_FALSE(Version::parse(bad)) << bad;
  }
}

class TrustedFolder : public testing::Test {
 protected:
  TrustedFolder() {
    char name[] = "/tmp/daemoneye-keys-XXXXXX";
    folder = ::mkdtemp(name);
    ::chmod(folder.c_str(), 0755);
  }
  ~TrustedFolder() override {
    std::error_code ignored;  // a folder that stays behind is no failure of a test
    std::filesystem::remove_all(folder, ignored);
  }
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(folder + '/' + name) << text;
    ::chmod((folder + '/' + name).c_str(), 0644);
    return folder + '/' + name;
  }
  std::string folder;
};

TEST_F(TrustedFolder, GivesItsKeys) {
  write("vendor.pub", key().public_key().text() + '\n');
  write("README", "not a key");
  const auto trusted = read_trusted_keys(folder);
  ASSERT_TRUE(trusted) << trusted.error().message;
  EXPECT_EQ(trusted->keys, std::vector{key().public_key()});
  EXPECT_TRUE(trusted->notices.empty());
  EXPECT_TRUE(read_trusted_keys(folder + "/none")->keys.empty()) << "no folder, no trust";
}

TEST_F(TrustedFolder, LeavesOutWhatOthersCanWriteAndWhatIsNoKey) {
  ::chmod(write("a.pub", key().public_key().text()).c_str(), 0666);
  write("b.pub", "something else");
  const auto trusted = read_trusted_keys(folder);
  ASSERT_TRUE(trusted) << trusted.error().message;
  EXPECT_TRUE(trusted->keys.empty());
  ASSERT_EQ(trusted->notices.size(), 2U);
  EXPECT_THAT(trusted->notices[0], HasSubstr("a.pub is not believed"));
  EXPECT_THAT(trusted->notices[1], HasSubstr("b.pub is not believed"));
  ::chmod(folder.c_str(), 0777);
  const auto open_to_all = read_trusted_keys(folder);
  ASSERT_FALSE(open_to_all);
  EXPECT_EQ(open_to_all.error().code, Errc::permission_denied);
}

}  // namespace
}  // namespace daemoneye::bundle
