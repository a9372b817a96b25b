// audit verify --events: the event store held against the ledger.
#pragma once

#include "cli/invocation.h"
#include "ledger/ledger.h"

namespace daemoneye::cli {

// Of a ledger that was found intact. 5 when a batch is wrong.
Outcome<Exit> verify_events(const ledger::LedgerReader& ledger, Invocation& invocation);

}  // namespace daemoneye::cli
