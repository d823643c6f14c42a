package suite

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"

	"stemma/benchmarks/internal/server"
)

// Site is an endpoint that is measured.
type Site struct {
	Endpoint                     string // URL
	AccessKey, SecretKey, Region string
	// Pid is that of the server, for its processor time; 0 when unknown.
	Pid int

	own *server.Server // nil when it is somebody else's
	dir string         // of its data
}

// defaultRegion is that of a server of our own.
const defaultRegion = "us-east-1"

// StartSite runs "bin serve" with its defaults on a new folder of dir.
func StartSite(bin, dir string) (*Site, error) {
	data, err := os.MkdirTemp(dir, "data")
	if err != nil {
		return nil, err
	}
	s, err := server.Start(bin, filepath.Join(data, "store"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", bin, err), os.RemoveAll(data))
	}
	return &Site{
		Endpoint: s.Endpoint, AccessKey: server.AccessKey, SecretKey: server.SecretKey, Region: defaultRegion,
		Pid: s.Pid(), own: s, dir: data,
	}, nil
}

// Close stops a server of our own and removes its data. It does nothing to another.
func (s *Site) Close() error {
	if s.own == nil {
		return nil
	}
	return errors.Join(s.own.Stop(), os.RemoveAll(s.dir))
}

// pause stops a server of our own where it is.
func (s *Site) pause() error {
	if s.own == nil {
		return nil
	}
	return s.own.Pause()
}

// resume lets it go on.
func (s *Site) resume() error {
	if s.own == nil {
		return nil
	}
	return s.own.Resume()
}

// CheckLoopback refuses an endpoint whose host is not an address of the loopback or
// localhost: load is for a machine of one's own.
func CheckLoopback(endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil {
		return err
	}
	host := u.Hostname()
	if ip := net.ParseIP(host); host == "localhost" || (ip != nil && ip.IsLoopback()) {
		return nil
	}
	return fmt.Errorf("%s is not on the loopback", endpoint)
}
