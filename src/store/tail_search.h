// Whether a batch of the tail can hold a row that meets the conditions, told from its bytes: to decode a thousand
// events costs a millisecond, to look for a text in them some microseconds.
#pragma once

#include <string_view>

#include "predicate/predicate.h"

namespace daemoneye::store {

// False when no event of the batch, in its canonical encoding, can meet the predicate.
bool may_match(std::string_view canonical, const predicate::Predicate& predicate);

}  // namespace daemoneye::store
