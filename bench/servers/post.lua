-- For wrk: posts the files of the folder $BENCH_IMAGES in turn: in the form field $BENCH_FIELD, or raw without it.
local requests, turn = {}, 0

function init()
  local field = os.getenv("BENCH_FIELD")
  for path in io.popen('ls -d "' .. os.getenv("BENCH_IMAGES") .. '"/*'):lines() do
    local file = io.open(path, "rb")
    local body, kind = file:read("*a"), "image/png"
    file:close()
    if field then
      kind = "multipart/form-data; boundary=neocogbench"
      body = '--neocogbench\r\nContent-Disposition: form-data; name="' .. field .. '"; filename="digit.png"\r\n'
        .. "Content-Type: image/png\r\n\r\n" .. body .. "\r\n--neocogbench--\r\n"
    end
    table.insert(requests, wrk.format("POST", wrk.path, { ["Content-Type"] = kind }, body))
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format("RESULT %.1f %.3f %.3f %d\n", summary.requests / summary.duration * 1e6,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    errors.status + errors.connect + errors.read + errors.write + errors.timeout))
end
