// Exceptions stop here: every function of the C interface runs its body inside guarded().
#pragma once
#include <new>

#include "activsparse.h"
#include "common/error.h"

namespace activsparse {

// Keeps the text for as_last_error(), shortened if need be, and returns the status.
as_status fail(as_status status, const char* text) noexcept;

template <class Body>
as_status guarded(const Body& body) noexcept {
  try {
    body();
    return AS_OK;
  } catch (const Error& e) {
    return fail(AS_INVALID, e.what());
  } catch (const std::bad_alloc&) {
    return fail(AS_OUT_OF_MEMORY, "out of memory");
  } catch (const std::exception& e) {
    return fail(AS_INTERNAL, e.what());
  } catch (...) {
    return fail(AS_INTERNAL, "unknown exception");
  }
}

inline void require_argument(bool present, const char* name) {
  if (!present) throw Error(std::string("argument '") + name + "' is NULL");
}

}  // namespace activsparse
