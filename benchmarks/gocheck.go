// Go's net/http client with fresh connections and the assertions of benchmarks/throughput.py: a baseline, nothing more.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func check(client *http.Client, url string) bool {
	began := time.Now()
	var connected, wrote, first time.Time
	trace := &httptrace.ClientTrace{
		ConnectDone:          func(string, string, error) { connected = time.Now() },
		WroteRequest:         func(httptrace.WroteRequestInfo) { wrote = time.Now() },
		GotFirstResponseByte: func() { first = time.Now() },
	}
	request, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return false
	}
	answer, err := client.Do(request.WithContext(httptrace.WithClientTrace(request.Context(), trace)))
	if err != nil {
		return false
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err != nil {
		return false
	}
	var document map[string]any
	if json.Unmarshal(body, &document) != nil {
		return false
	}
	return answer.StatusCode == 200 && document["status"] == "ok" && time.Since(began) < 5*time.Second &&
		!connected.IsZero() && !wrote.IsZero() && !first.IsZero()
}

func main() {
	count, _ := strconv.Atoi(os.Args[1])
	concurrency, _ := strconv.Atoi(os.Args[2])
	pem, err := os.ReadFile(os.Args[3])
	if err != nil {
		panic(err)
	}
	urls := os.Args[4:]
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	client := &http.Client{
		Timeout:   10 * time.Second,
		Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots}},
	}
	var next, failed atomic.Int64
	var work sync.WaitGroup
	for range concurrency {
		work.Add(1)
		go func() {
			defer work.Done()
			for n := next.Add(1); n <= int64(count); n = next.Add(1) {
				if !check(client, urls[int(n)%len(urls)]) {
					failed.Add(1)
				}
			}
		}()
	}
	work.Wait()
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	spent := time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
	fmt.Printf("{\"cpu_s\": %f, \"failed\": %d}\n", spent, failed.Load())
}
