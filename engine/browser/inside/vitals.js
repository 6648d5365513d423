// When a document began, and its web vitals in milliseconds: TTFB, FCP, LCP; CLS as the worst of its session windows.
async wait => {
  const seen = type => {
    const observer = new PerformanceObserver(() => {});
    observer.observe({type, buffered: true});
    const found = observer.takeRecords();
    observer.disconnect();
    return found;
  };
  const painted = () => performance.getEntriesByName("first-contentful-paint")[0];
  if (wait && !painted())
    await new Promise(done => {
      new PerformanceObserver((_, observer) => painted() && (observer.disconnect(), done())).observe({type: "paint"});
      setTimeout(done, wait);
    });
  let worst = 0, sum = 0, first = -Infinity, last = -Infinity;
  for (const shift of seen("layout-shift")) {
    if (shift.hadRecentInput) continue;
    const at = shift.startTime;
    if (at - last >= 1000 || at - first >= 5000) [sum, first] = [0, at];
    [sum, last] = [sum + shift.value, at];
    worst = Math.max(worst, sum);
  }
  const page = performance.getEntriesByType("navigation")[0];
  return [performance.timeOrigin, page?.responseStart, painted()?.startTime, seen("largest-contentful-paint").at(-1)?.startTime, worst];
}
