import ControlInterface
import InterfaceTestSupport
import Synchronization
import Testing
import Varlink

@testable import TDXControl

/// Whatever serves the socket, and whatever lies in tdxd's files, must not end tdxctl by a trap, nor reach the terminal as
/// it is.
@Suite(.serialized) struct HostileServerTests {
    static let commands: [[String]] = [
        ["list"], ["show", "web1"], ["map", "web1"], ["keys"], ["ok"], ["verify", "web1"], ["conversions", "web1"],
        ["create", "web1", "--memory", "1G"], ["stop", "web1"], ["stop", "web1", "--plan"], ["reclaim", "web1"],
        ["convert", "web1", "--gpa", "0", "--size", "4K", "--to", "shared"], ["certificate", "list"],
        ["certificate", "show", "web1"], ["drain", "--for", "shutdown"], ["undrain"], ["kexec", "check"], ["inventory"],
        ["inventory", "--ranges"], ["metrics"], ["selftest"], ["estimate", "--memory", "1G"], ["version"],
    ]

    @Test(arguments: [1, 2] as [UInt64])
    func `no answer ends tdxctl by a trap or reaches the terminal as it is`(seed: UInt64) throws {
        print("seed \(seed)")
        let answers = Mutex(
            HostileAnswers(try VarlinkInterface(parsing: InterfaceDescription.manager), seed: seed))
        let methods = answers.withLock { $0.methods }
        let manager = try ManagerStandIn(
            Dictionary(
                uniqueKeysWithValues: methods.map { method -> (String, VarlinkServer.Handler) in
                    (
                        method,
                        { call in
                            let (step, last) = answers.withLock { ($0.reply(to: method), $0.reply(to: method)) }
                            call.replyContinues(step)
                            call.reply(last)
                        }
                    )
                }))
        for _ in 0..<4 {
            for command in Self.commands {
                for json in [[], ["--json=short"], ["--json=pretty"]] {
                    let outcome = tdxctl(command + ["--socket", manager.path] + json)
                    for text in [outcome.output, outcome.error] {
                        let bad = text.unicodeScalars.first { $0 != "\n" && isControl($0) }
                        #expect(bad == nil, "\(command) \(json): U+\(String(bad?.value ?? 0, radix: 16))")
                    }
                }
            }
        }
    }

    @Test(arguments: [1e15, 9.3e18, -9.3e18, 1e300, -1e300, .infinity, .nan])
    func `a figure of any size is formatted`(value: Double) {
        for text in [formatted(milliseconds: value), formatted(longSeconds: value)] { #expect(!text.isEmpty) }
    }

    @Test func `JSON has what a terminal would act upon escaped, and is the same value`() throws {
        let text = json(["a": "\u{9b}31m\u{202e}\u{7f}\u{e0001}é\n"], .pretty)
        #expect(text.unicodeScalars.allSatisfy { $0 == "\n" || !isControl($0) })
        #expect(text.contains("\\u009b31m\\u202e\\u007f\\udb40\\udc01é\\n"))
    }
}
