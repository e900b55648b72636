// Command tls has a client and a server talk TLS over the loopback interface of
// the container in which it runs, with the certificate and key in the file named
// by its argument. The client prints what the server says.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	certificate, err := tls.X509KeyPair(text, text)
	if err != nil {
		return err
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}})
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- serve(listener) }()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	conn, err := tls.Dial("tcp", listener.Addr().String(), &tls.Config{RootCAs: roots})
	if err != nil {
		return err
	}
	if _, err := io.Copy(os.Stdout, conn); err != nil {
		return err
	}
	return <-served
}

func serve(l net.Listener) error {
	conn, err := l.Accept()
	if err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "hello over TLS\n"); err != nil {
		return err
	}
	return conn.Close()
}
