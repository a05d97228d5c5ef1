import Glibc
import LinuxSystem
import Logging
import ServiceSupport
import SystemPackage

// What the tests of ServiceSupport need a process of its own for. Prints what it saw, one line each.

func say(_ line: String) {
    print(line)
    fflush(nil)
}

func fail(_ line: String) -> Never {
    say("failed: \(line)")
    exit(1)
}

do {
    switch CommandLine.arguments.dropFirst().first {
    case "filter": try tryFilter(Array(CommandLine.arguments.dropFirst(2)))
    case "fence": try tryFence(Array(CommandLine.arguments.dropFirst(2)))
    case "inherit": try inherit()
    case "narrow": try narrow()
    case "notify": try notify()
    case "listen": try listen()
    case "log": log()
    default:
        fail(
            "usage: service-support-helper filter PROFILE REFUSAL | fence DIRECTORY | inherit | narrow | notify | listen | log"
        )
    }
} catch {
    fail("\(error)")
}

/// Sends every message, then stores a descriptor and takes it out again.
func notify() throws {
    let notifier = ServiceNotifier()
    say("sent \(try notifier.send(.ready, .status("two\nlines")))")
    try notifier.send(.reloading)
    try notifier.send(.extendTimeout(.milliseconds(1500)))
    try notifier.send(.watchdog)
    try notifier.store(0, name: "web1-0")
    try notifier.removeStored(name: "web1-0")
    do {
        try notifier.store(0, name: "a:b")
        say("a bad name was taken")
    } catch {
        say("refused \(error.errno.rawValue)")
    }
    try notifier.send(.stopping)
    say("watchdog \(try ServiceNotifier.watchdogInterval().map { "\($0)" } ?? "none")")
}

/// Tells what was passed.
func listen() throws {
    var sockets = try ListenSockets.takeFromEnvironment()
    say("names \(sockets.names.joined(separator: " "))")
    if let control = sockets.take(named: "control") {
        say(
            "control listening \(try ListenSockets.isListeningUnixStream(control)) cloexec \(try control.isCloseOnExec())"
        )
    }
    say("left \(sockets.names.joined(separator: " "))")
    say("again \(sockets.take(named: "control") == nil ? "none" : "some")")
    say("environment \(getenv("LISTEN_FDS") == nil ? "clean" : "left")")
    let rest = sockets.names.count
    _ = consume sockets
    say("closed \((4..<4 + Int32(rest)).allSatisfy { fcntl($0, F_GETFD) == -1 })")
}

/// Logs as the environment says.
func log() {
    ServiceLogHandler.bootstrap(identifier: "helper", level: .debug)
    var logger = Logger(label: "test")
    logger[metadataKey: "td"] = "web1"
    logger.trace("not shown")
    logger.warning("two\nlines", metadata: ["tdx_status": "0x1", "empty": "", "spaced": "a \"b\""])
    logger.debug("shown")
}
