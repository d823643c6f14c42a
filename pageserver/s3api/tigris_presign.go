package s3api

import (
	"encoding/json"
	"math"
	"time"

	"stemma/pageserver/auth"
	"stemma/pageserver/object"
)

// presignJSON is what clients of Tigris send to POST /?func=presign: which request is to be signed.
type presignJSON struct {
	Bucket    string `json:"bucket"`
	Key       string `json:"key"`
	KeyID     string `json:"key_id"`
	Type      string `json:"type"`       // get or put
	ExpiresIn *int64 `json:"expires_in"` // seconds; default an hour
	VersionID string `json:"version_id"`
}

// wantsPresigned reports whether the request is POST /?func=presign.
func (r *request) wantsPresigned() bool { return r.param("func") == "presign" }

// presign answers with the URL of a request of a key of the caller's.
func (r *request) presign(body []byte) ([]byte, error) {
	var in presignJSON
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, invalidArgument("body", "", "The body must be an object of JSON")
	}
	if in.Bucket == "" || in.Key == "" || object.Reserved(in.Bucket) {
		return nil, invalidArgument("key", clip(in.Key), "bucket and key say of which object the URL is to be")
	}
	key, err := r.presigningKey(in.KeyID)
	if err != nil {
		return nil, err
	}
	seconds := int64(time.Hour / time.Second)
	if in.ExpiresIn != nil {
		seconds = *in.ExpiresIn
	}
	if most := int64(auth.MaxPresigned / time.Second); seconds < 1 || seconds > most {
		return nil, invalidArgument("expires_in", itoa(int(min(max(seconds, -1), math.MaxInt32))), "expires_in must be from 1 to "+itoa(int(most))+" seconds")
	}
	p := auth.Presigned{
		Host: string(r.header().Host()), Path: "/" + in.Bucket + "/" + in.Key, Region: r.srv.o.Region, Expires: time.Duration(seconds) * time.Second,
	}
	switch in.Type {
	case "get":
		p.Method = "GET"
	case "put":
		p.Method = "PUT"
	default:
		return nil, invalidArgument("type", clip(in.Type), "type must be get or put")
	}
	if in.VersionID != "" {
		if _, err := object.ParseVersionID(in.VersionID); err != nil || in.Type != "get" {
			return nil, invalidArgument("version_id", clip(in.VersionID), "version_id must be a version to get")
		}
		p.Params = []auth.Param{{Name: "versionId", Value: in.VersionID}}
	}
	if key.ID == r.proof.Key.ID {
		p.Token = r.sessionToken()
	}
	scheme := "http://"
	if r.ctx.IsTLS() {
		scheme = "https://"
	}
	return json.Marshal(map[string]string{"url": scheme + p.Host + key.Presign(&p, time.Now()), "method": p.Method})
}

// sessionToken returns that of the request; empty: it has none.
func (r *request) sessionToken() string {
	if token := r.peek("X-Amz-Security-Token"); token != "" {
		return token
	}
	return r.param("X-Amz-Security-Token")
}

// presigningKey returns the key that the caller may have a URL signed with: that of the request, which an empty id
// means too, or another of its own; the root may take any. Error: errDenied.
func (r *request) presigningKey(id string) (auth.Key, error) {
	mine := r.proof.Key
	if r.proof.Caller.Anonymous() {
		return mine, errDenied
	}
	if id == "" || id == mine.ID {
		return mine, nil
	}
	key, ok := r.srv.o.Verifier.Key(id)
	if !ok {
		return mine, errDenied
	}
	c, me := key.CallerOf(), r.proof.Caller
	if !me.Root && (c.Root || c.Unique != me.Unique || me.Scope != nil || me.Bound != nil) {
		return mine, errDenied // it could do what the caller may not
	}
	return key, nil
}
