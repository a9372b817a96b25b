#include "ledger/note.h"

#include <gtest/gtest.h>

#include "ledger/merkle.h"

namespace daemoneye::ledger {
namespace {

// The example of golang.org/x/mod/sumdb/note's documentation, made by its authors.
constexpr const char* known_key = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
constexpr const char* known_note =
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "\xe2\x80\x94 PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

TEST(Note, OfAnotherImplementationVerifies) {
  const auto key = PublicKey::parse(known_key);
  ASSERT_TRUE(key) << key.error().message;
  EXPECT_EQ(key->text(), known_key);
  auto note = Note::parse(known_note);
  ASSERT_TRUE(note) << note.error().message;
  EXPECT_EQ(note->bytes(), known_note);
  EXPECT_TRUE(note->is_signed_by(*key));
  note->text[3] ^= 1;
  EXPECT_FALSE(note->is_signed_by(*key));
}

TEST(Note, IsSignedByEveryKeyThatSigned) {
  const auto first = PrivateKey::generate("host/log").value(), second = PrivateKey::generate("host/log").value();
  const auto other = PrivateKey::generate("host/log").value();
  Note note{.text = Checkpoint{"host/log", 7, digest_of("root")}.text(), .signatures = {}};
  ASSERT_TRUE(note.sign(first));
  ASSERT_TRUE(note.sign(second));
  const auto again = Note::parse(note.bytes());
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_TRUE(again->is_signed_by(first.public_key()));
  EXPECT_TRUE(again->is_signed_by(second.public_key()));
  EXPECT_FALSE(again->is_signed_by(other.public_key()));
  // A wrong signature under a known key spoils the note, whatever else is there.
  auto spoiled = *again;
  spoiled.signatures.push_back(spoiled.signatures.front());
  spoiled.signatures.back().signature[5] ^= 1;
  EXPECT_FALSE(spoiled.is_signed_by(first.public_key()));
  const auto checkpoint = Checkpoint::parse(again->text);
  ASSERT_TRUE(checkpoint);
  EXPECT_EQ(checkpoint->size, 7U);
  EXPECT_EQ(checkpoint->origin, "host/log");
  EXPECT_EQ(checkpoint->root, digest_of("root"));
}

TEST(Note, KeysComeBackFromTheirText) {
  const auto key = PrivateKey::generate("host/log").value();
  const auto again = PrivateKey::parse(key.text() + "\n");
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->public_key(), key.public_key());
  EXPECT_EQ(again->sign("x").value(), key.sign("x").value());
  auto text = key.public_key().text();
  text[text.find('+') + 1] = text[text.find('+') + 1] == '0' ? '1' : '0';
  EXPECT_FALSE(PublicKey::parse(text)) << "the hash is not that of the key";
  for (const auto* wrong : {"", "a", "a+b", "a b+00000000+AAAA", "+00000000+AAAA", "a+00000000+!!!!"}) {
    EXPECT_FALSE(PublicKey::parse(wrong)) << wrong;
    EXPECT_FALSE(PrivateKey::parse(wrong)) << wrong;
  }
  EXPECT_FALSE(PrivateKey::generate("a+b"));
  EXPECT_FALSE(PrivateKey::generate("a b"));
}

TEST(Note, WhatIsNoneIsRefused) {
  const std::string good = known_note;
  EXPECT_FALSE(Note::parse(""));
  EXPECT_FALSE(Note::parse("text\n"));
  EXPECT_FALSE(Note::parse(good.substr(0, good.size() - 1)));
  EXPECT_FALSE(Note::parse(good + "x\n"));
  EXPECT_FALSE(Note::parse(good + "\xe2\x80\x94 a\n"));
  EXPECT_FALSE(Note::parse("a\x01z\n\n" + good.substr(good.find("\n\n") + 2)));
  EXPECT_FALSE(Note::parse("a\xffz\n\n" + good.substr(good.find("\n\n") + 2)));
  std::string many = "text\n\n";
  for (std::size_t i = 0; i <= max_note_signatures; ++i) many += good.substr(good.find("\n\n") + 2);
  EXPECT_FALSE(Note::parse(many));
  EXPECT_FALSE(Note::parse(std::string(max_note_bytes, 'a') + good));
}

TEST(Checkpoint, WhatIsNoneIsRefused) {
  const std::string root = to_base64(base::as_bytes(digest_of("")));
  EXPECT_TRUE(Checkpoint::parse("o\n0\n" + root + "\n"));
  EXPECT_TRUE(Checkpoint::parse("o\n12\n" + root + "\nan extension\n"));
  for (const auto& wrong : {std::string(), std::string("o\n1\n"), "o\n01\n" + root + "\n", "o\n-1\n" + root + "\n",
                            "o\n1\n" + root, "\n1\n" + root + "\n", "o\n1\n" + root.substr(4) + "\n",
                            "o\n1\n" + root + "\n\n", "o\n18446744073709551616\n" + root + "\n"}) {
    EXPECT_FALSE(Checkpoint::parse(wrong)) << wrong;
  }
}

TEST(Notes, OneAfterAnotherAreToldApart) {
  const auto notes = parse_notes(std::string(known_note) + known_note);
  ASSERT_TRUE(notes) << notes.error().message;
  ASSERT_EQ(notes->size(), 2U);
  EXPECT_EQ((*notes)[1].bytes(), known_note);
  EXPECT_TRUE(parse_notes("")->empty());
  EXPECT_FALSE(parse_notes(std::string(known_note) + "rest"));
}

TEST(Base64, IsCanonical) {
  for (const auto& [bytes, text] : std::vector<std::pair<std::string, std::string>>{
           {"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}}) {
    EXPECT_EQ(to_base64(bytes), text);
    EXPECT_EQ(from_base64(text).value(), bytes);
  }
  for (const auto* wrong : {"Zg=", "Zh==", "Zm9=", "Z===", "Zg==Zg==", "Z g=", "Zm-_"})
    EXPECT_FALSE(from_base64(wrong));
}

}  // namespace
}  // namespace daemoneye::ledger
