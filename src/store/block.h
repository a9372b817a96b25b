// A sealed block, decoded a column at a time as it is asked for.
#pragma once

#include <array>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "predicate/predicate.h"
#include "store/block_header.h"
#include "store/column_data.h"
#include "store/column_view.h"
#include "store/reader.h"
#include "store/scan_conditions.h"

namespace daemoneye::store {

// Of some rows of one column.
struct FewValues {
  std::vector<std::uint32_t> rows, entries;
  std::vector<event::ProcessKey> keys;            // of those, in a column of keys
  std::vector<std::optional<std::string>> texts;  // made when asked for, where the stored text is another
};

class Block {
 public:
  // Gives the uncompressed body of a chunk.
  using Load = std::function<Result<std::string>(std::uint8_t chunk)>;
  // Gives what will give it: the chunk is read and its checksum right, but nothing is uncompressed yet.
  using Later = std::function<Result<std::string>()>;
  using Fetch = std::function<Result<Later>(std::uint8_t chunk)>;
  // `rows` is what the catalog says; corrupt when the header disagrees.
  static Result<std::unique_ptr<Block>> open(Load load, std::uint32_t rows, Fetch fetch = {});
  // With the header that was read before.
  static std::unique_ptr<Block> open(Load load, BlockHeader header, Fetch fetch);

  [[nodiscard]] const BlockHeader& header() const { return header_; }
  // Decodes what `column` needs; corrupt otherwise.
  Result<void> need(event::Column column);
  // As need(), but leaves the decoding to the need() that comes later, if one does; corrupt already now.
  Result<void> need_later(event::Column column);
  [[nodiscard]] bool is_decoded(event::Column column) const;
  // The SQL value; the column must have been needed. `event_id` is that of row 0. Text lives as long as the block.
  [[nodiscard]] ValueView value(std::size_t row, event::Column column, event::EventId first_event);
  // Where few rows, ascending, are wanted of a column with a dictionary that was not needed: their values, without
  // reading it whole. Text lives as long as the block and `few`.
  [[nodiscard]] static bool has_entries(event::Column column);
  Result<void> few_of(event::Column column, std::span<const std::uint32_t> rows, FewValues& few);
  [[nodiscard]] ValueView value_of(event::Column column, FewValues& few, std::size_t place);
  // A whole column, once needed, by row: what value() gives, without looking for the way each time. Empty when the
  // column is of another kind. Valid as long as the block.
  [[nodiscard]] IntegerColumn integers(event::Column column, event::EventId first_event);
  [[nodiscard]] RealColumn reals(event::Column column);
  [[nodiscard]] TextColumn texts(event::Column column);
  [[nodiscard]] std::string_view text(event::Column column, std::uint32_t entry);
  // Sets `rows` to those of [first, last] in the time range that meet every condition, ascending.
  Result<void> select(const ScanConditions& conditions, const event::TimeRange& time, event::EventId first_event,
                      std::uint32_t first, std::uint32_t last, std::vector<std::uint32_t>& rows);
  // The whole event, as it was committed.
  Result<event::ProcessEvent> event(std::size_t row);
  // The rows with this process key, ascending.
  Result<std::vector<std::uint32_t>> rows_of(const event::ProcessKey& key);
  [[nodiscard]] std::size_t bytes() const;

 private:
  struct Texts {  // derived texts of a dictionary's entries, made when first asked for
    std::vector<std::string_view> views;
    std::vector<bool> made;
    std::deque<std::string> storage;
  };
  // A dictionary's texts, one after the other in `bytes`.
  struct Searchable {
    std::string_view bytes;
    std::span<const std::string_view> entries;
    bool command_lines = false;  // the entries are arguments: a NUL is a space, and the last one is not there

    [[nodiscard]] std::string_view text(std::size_t entry) const {
      const auto whole = entries[entry];
      return command_lines && whole.ends_with('\0') ? whole.substr(0, whole.size() - 1) : whole;
    }
  };
  // What a column's view shows where it differs from what is stored: NULL in the rows of gaps, numbers for names.
  struct Shown {
    std::vector<std::int64_t> integers;
    std::vector<std::uint8_t> present;
    std::vector<std::uint32_t> entries;
  };
  Block(Load load, Fetch fetch, BlockHeader header);
  Shown& shown(event::Column column);
  [[nodiscard]] const std::uint8_t* presence(event::Column column);
  void filter_texts(std::vector<std::uint32_t>& rows, const predicate::Predicate& predicate, std::size_t condition,
                    const TextColumn& texts);
  Result<const ColumnData*> stored(event::Column column);
  // Whole or not: `codes` is how it is opened when it was not yet.
  Result<const ColumnData*> opened(event::Column column, Codes codes);
  // Keeps those that meet an equality without reading the whole column; false when there is no such short way.
  Result<bool> filter_by_codes(std::vector<std::uint32_t>& rows, const ScanConditions& conditions,
                               std::size_t condition, std::uint32_t first, std::uint32_t last);
  [[nodiscard]] const ColumnData& data(event::Column column) const;
  [[nodiscard]] std::string_view stored_text(event::Column column, std::uint32_t entry);
  [[nodiscard]] std::optional<Searchable> searchable(event::Column column) const;
  // Decides each entry that the pattern's literal is enough for; what stays unknown must be looked at.
  void search(std::vector<std::uint8_t>& verdicts, const predicate::Predicate& predicate, std::size_t condition);
  [[nodiscard]] bool is_gap(std::size_t row) const { return !gap_.empty() && gap_[row]; }
  void filter_keys(std::vector<std::uint32_t>& rows, const KeySet& wanted, event::Column column);
  void filter(std::vector<std::uint32_t>& rows, const ScanConditions& conditions, std::size_t condition,
              event::EventId first_event);

  Load load_;
  Fetch fetch_;
  BlockHeader header_;
  std::vector<bool> gap_;
  std::array<std::unique_ptr<ColumnData>, event::column_count> columns_;
  std::array<Later, event::column_count> later_;
  std::array<Texts, event::column_count> texts_;
  std::array<std::unique_ptr<Shown>, event::column_count> shown_;
};

}  // namespace daemoneye::store
