// Package policy parses and evaluates policies in the language of IAM: who may do
// what with which resource on which conditions. It is pure: no I/O, no clock, no
// users; whoever asks brings all of that in a Request.
//
// # Decisions
//
// A policy says Deny if one of its Deny statements applies to the request, else
// Allow if one of its Allow statements does, else None. A statement applies when
// principal (of resource policies), action, resource and every condition match.
// How the decisions of several policies are put together is for the caller.
//
// # Matching
//
// Actions are compared without regard to case, resources with. In both, and in the
// String*Like and Arn* operators, * stands for any characters and ? for one. In
// version 2012-10-17 ${key} in resources and condition values stands for the value
// of the key, ${key, 'default'} for the default where there is none, ${*}, ${?} and
// ${$} for the characters themselves; a resource with a variable that has no value
// matches nothing.
//
// # Conditions
//
// All keys of all operators of a statement must match, each with any of its values.
// A key without a value fails the operator, except for the negated ones (…Not…),
// those with IfExists, ForAllValues: and Null.
package policy
