// Package iam answers the query APIs of STS and IAM: actions with parameters, sent to
// the service itself, about sessions, users, keys and policies.
//
// It knows no HTTP: who asks was proved before, and what it answers is a document.
package iam
