package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"stemma/pageserver"
)

// adminFlags say which server a command of administration talks to and as whom.
type adminFlags struct {
	endpoint string
	who      credentialFlags
}

func (f *adminFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.endpoint, "admin-endpoint", "http://"+defaultAdminListen, "address of the server's admin listener")
	f.who.add(cmd)
}

// maxAdminAnswer bounds an answer of the admin listener, in bytes.
const maxAdminAnswer = 1 << 30

// call sends a request to the admin listener, with in as its body unless it is
// nil, and decodes the answer into out unless that is nil. Errors: *pageserver.AdminError.
func (f *adminFlags) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	endpoint, err := f.who.endpoint(f.endpoint, "http://"+defaultAdminListen, true)
	if err != nil {
		return err
	}
	u, err := parseEndpoint("admin-endpoint", endpoint)
	if err != nil {
		return err
	}
	u = u.JoinPath(path)
	u.RawQuery = query.Encode()
	var body []byte
	if in != nil {
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	status, answer, err := f.who.send(ctx, method, u, http.Header{}, body, maxAdminAnswer)
	if err != nil {
		return err
	}
	if status == http.StatusOK {
		if out == nil {
			return nil
		}
		if err := json.Unmarshal(answer, out); err != nil {
			return fmt.Errorf("unreadable answer of %s: %w", f.endpoint, err)
		}
		return nil
	}
	var e pageserver.AdminError
	if err := json.Unmarshal(answer, &e); err != nil || e.Code == "" {
		return errors.New(http.StatusText(status))
	}
	return &e
}
