// Package gc is pure arithmetic about what must be kept: from LSNs, pins and
// clocks to decisions. It does no I/O, starts nothing, and never imports
// timeline, which acts on what is decided here.
//
// So far it decides how the horizon advances. Which versions are kept, and why,
// comes with the collection of garbage.
package gc
