package s3api

import (
	"encoding/json"
	"strconv"
	"time"

	"stemma/pageserver/auth"
)

// AppendS3 appends the record as one line of an S3 server access log, with the line's end.
func (a *AccessRecord) AppendS3(dst []byte) []byte {
	word := func(s string) {
		if s == "" {
			s = "-"
		}
		dst = append(appendLogged(dst, s, ' '), ' ')
	}
	quoted := func(s string) {
		if s == "" {
			s = "-"
		}
		dst = append(appendLogged(append(dst, '"'), s, '"'), '"', ' ')
	}
	number := func(n int64) {
		if n < 0 {
			dst = append(dst, '-', ' ')
			return
		}
		dst = append(strconv.AppendInt(dst, n, 10), ' ')
	}
	word(a.Owner)
	word(a.Bucket)
	dst = a.Time.UTC().AppendFormat(dst, "[02/Jan/2006:15:04:05 +0000] ")
	word(a.RemoteIP)
	word(a.Requester)
	word(a.RequestID)
	word(a.Operation)
	word(string(auth.AppendEscaped(nil, a.Key, true)))
	quoted(a.Method + " " + a.URI + " " + a.Proto)
	number(int64(a.Status))
	word(a.ErrorCode)
	number(a.Sent)
	number(a.Size)
	number(a.Total.Milliseconds())
	number(a.Total.Milliseconds())
	quoted(a.Referer)
	quoted(a.UserAgent)
	word(a.VersionID)
	word(a.HostID)
	if a.AuthType != "" {
		word("SigV4")
	} else {
		word("")
	}
	word(a.Cipher)
	word(a.AuthType)
	word(a.Host)
	word(a.TLS)
	if a.ByACL {
		return append(dst, "- Yes\n"...)
	}
	return append(dst, "- -\n"...)
}

// appendLogged appends s without what would end its field or the line.
func appendLogged(dst []byte, s string, end byte) []byte {
	const hex = "0123456789ABCDEF"
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == 0x7f || c == end || c == '"' {
			dst = append(dst, '%', hex[c>>4], hex[c&15])
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}

// AppendJSON appends the record as one line of JSON, with the line's end.
func (a *AccessRecord) AppendJSON(dst []byte) []byte {
	line := struct {
		Time      string `json:"time"`
		Bucket    string `json:"bucket,omitempty"`
		Key       string `json:"key,omitempty"`
		RemoteIP  string `json:"remote_ip"`
		Requester string `json:"requester,omitempty"`
		RequestID string `json:"request_id"`
		Operation string `json:"operation"`
		Method    string `json:"method"`
		URI       string `json:"uri"`
		Status    int    `json:"status"`
		ErrorCode string `json:"error_code,omitempty"`
		Sent      int64  `json:"bytes_sent"`
		Millis    int64  `json:"total_ms"`
		Referer   string `json:"referer,omitempty"`
		UserAgent string `json:"user_agent,omitempty"`
		VersionID string `json:"version_id,omitempty"`
		LSN       uint64 `json:"lsn,omitempty"`
		AuthType  string `json:"auth_type,omitempty"`
		Host      string `json:"host"`
		TLS       string `json:"tls,omitempty"`
	}{
		a.Time.UTC().Format(time.RFC3339Nano), a.Bucket, a.Key, a.RemoteIP, a.Requester, a.RequestID, a.Operation, a.Method, a.URI, a.Status, a.ErrorCode,
		max(a.Sent, 0), a.Total.Milliseconds(), a.Referer, a.UserAgent, a.VersionID, uint64(a.LSN), a.AuthType, a.Host, a.TLS,
	}
	p, err := json.Marshal(&line)
	if err != nil {
		panic("BUG: " + err.Error()) // plain fields
	}
	return append(append(dst, p...), '\n')
}
