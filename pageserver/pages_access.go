package pageserver

import (
	"errors"

	"stemma/pageserver/object"
	"stemma/wal"
)

// decide decides about a request to an object, as about the one of S3 that does the same.
func (p *pagesRequest) decide(method string, clone, changed bool) error {
	if p.root {
		return nil
	}
	at, err := p.lsn("at")
	if err != nil {
		return err
	}
	switch {
	case method == "GET" && changed:
		since, err := p.lsn("since")
		if err != nil {
			return err
		}
		return p.mayReadAt(since, at)
	case method == "GET":
		return p.mayReadAt(at)
	}
	if err := p.judge.MayKey("s3:PutObject", p.bucket, p.key, object.PermWrite); err != nil || !clone {
		return err
	}
	var in CloneRequest
	if err := p.decode(&in); err != nil {
		return err
	}
	if in.Bucket == "" {
		in.Bucket = p.bucket
	}
	return p.judge.MayRead(p.ctx, in.Bucket, in.Key, in.At, true)
}

// mayReadAt decides about what the object was at some LSNs. That it was not there at one is for the handler to say.
func (p *pagesRequest) mayReadAt(lsns ...wal.LSN) error {
	for _, at := range lsns {
		if err := p.judge.MayRead(p.ctx, p.bucket, p.key, at, false); err != nil && !errors.Is(err, object.ErrNoSuchKey) {
			return err
		}
	}
	return nil
}

// mayReadBatch decides about each object that is read, once for each LSN.
func (p *pagesRequest) mayReadBatch(bucket string, reads []object.PageRead) error {
	if p.root {
		return nil
	}
	if err := p.judge.May("s3:ListBucket", bucket); err != nil { // it is told which of them are there
		return err
	}
	type version struct {
		key string
		at  wal.LSN
	}
	decided := make(map[version]bool)
	for i := range reads {
		v := version{string(reads[i].Key), reads[i].At}
		if decided[v] {
			continue
		}
		decided[v] = true
		if err := p.judge.MayRead(p.ctx, bucket, v.key, v.at, false); err != nil && !errors.Is(err, object.ErrNoSuchKey) {
			return err
		}
	}
	return nil
}
