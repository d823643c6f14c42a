package pageserver

import (
	_ "embed" // openapi.json
)

// openAPI is the description of everything below /v1, which a test makes of the routes and their types, and holds real
// requests and answers against:
//
//	go test ./pageserver -run TestOpenAPIDocument -rewrite
//
//go:embed openapi.json
var openAPI []byte

// openAPIPath is where it is served, to anybody.
const openAPIPath = "/v1/openapi.json"
