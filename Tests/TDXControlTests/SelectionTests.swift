import ControlInterface
import Synchronization
import Testing
import Varlink

@testable import TDXControl

/// Commands that take several TDs, by names, patterns and ids.
@Suite struct SelectionTests {
    private static let ids = ["00aa", "00ab", "10ac"].map { $0 + String(repeating: "0", count: 28) }

    private func domain(_ name: String, _ id: String, _ state: TrustDomainState = .runnable) -> TrustDomain {
        var domain = TrustDomain.sample(name, state: state)
        domain.id = id
        return domain
    }

    /// A manager with web1, web10 and web2, which notes the names that it is asked to stop.
    private func manager(_ stopped: NameList = NameList()) throws -> ManagerStandIn {
        let domains = [
            domain("web10", Self.ids[0]), domain("web2", Self.ids[1], .draining), domain("web1", Self.ids[2]),
        ]
        return try ManagerStandIn([
            "List": { $0.reply(ManagerInterface.List.Reply(domains: domains)) },
            "Show": { call in
                guard let asked = try? call.parameters(as: ManagerInterface.Show.Parameters.self),
                    let domain = domains.first(where: { $0.name == asked.name.rawValue })
                else { return call.fail(ControlError.noSuchDomain(name: "?").reply(on: .manager)) }
                call.reply(ManagerInterface.Show.Reply(domain: domain))
            },
            "Stop": { call in
                guard let asked = try? call.parameters(as: ManagerInterface.Stop.Parameters.self) else { return }
                stopped.names.withLock { $0.append(asked.name.rawValue) }
                guard asked.name.rawValue != "web2" else {
                    let error = ControlError.wrongState(name: "web2", state: "draining", operation: "stop")
                    return call.fail(error.reply(on: .manager))
                }
                var certificate = TeardownCertificate.sample()
                certificate.name = asked.name.rawValue
                call.reply(ManagerInterface.Stop.Reply(certificate: certificate))
            },
        ])
    }

    final class NameList: Sendable { let names = Mutex<[String]>([]) }

    @Test func `list is in natural order, and can be narrowed, sorted and shaped`() throws {
        let manager = try manager()
        func names(_ arguments: String...) -> String {
            tdxctl(["list", "-q", "--socket", manager.path] + arguments).output
        }
        #expect(names() == "web1\nweb2\nweb10\n")
        #expect(names("--reverse") == "web10\nweb2\nweb1\n")
        #expect(names("web?") == "web1\nweb2\n")
        #expect(names("--state", "draining") == "web2\n")
        #expect(names("--backend", "guest-memfd", "web1") == "web1\n")
        #expect(names("--sort", "id") == "web10\nweb2\nweb1\n")
        #expect(names("10ac") == "web1\n")
        #expect(names("nothing*") == "")
        let table = tdxctl("list", "-o", "name,state", "--no-legend", "--socket", manager.path).output
        #expect(table == "web1   runnable\nweb2   draining\nweb10  runnable\n")
        let wrong = tdxctl("list", "--sort", "colour", "--socket", manager.path)
        #expect(wrong.status == 2 && wrong.error.contains("invalid column “colour”: one of name, state"))
    }

    @Test
    func `stop takes names, patterns and ids, each TD once, and one that cannot be ended does not keep the others`()
        throws
    {
        let stopped = NameList()
        let manager = try manager(stopped)
        let outcome = tdxctl("stop", "web*", "10ac", "--socket", manager.path)
        #expect(outcome.status == 1)
        #expect(stopped.names.withLock { $0.sorted() } == ["web1", "web10", "web2"])
        #expect(outcome.output.split(separator: "\n").count == 2)
        #expect(outcome.output.contains("web1: ended") && outcome.output.contains("web10: ended"))
        #expect(outcome.error.contains("web2 is draining"))
        let documents = tdxctl("stop", "--all", "--json=short", "--socket", manager.path)
        #expect(documents.output.hasPrefix("[{") && documents.status == 1)
        // By the first digits of its id, it is one TD: one document.
        #expect(tdxctl("stop", "00aa", "--json=short", "--socket", manager.path).output.hasPrefix("{"))
    }

    @Test func `what names no TD, or more than one id, stops nothing`() throws {
        let stopped = NameList()
        let manager = try manager(stopped)
        let unmatched = tdxctl("stop", "web1", "db*", "--socket", manager.path)
        #expect(unmatched.status == 3 && unmatched.error.contains("no TD matches “db*”"))
        let ambiguous = tdxctl("stop", "00a0", "00aa", "--socket", manager.path)
        #expect(ambiguous.status == 3, "\(ambiguous)")
        #expect(tdxctl("stop", "--socket", manager.path).status == 2)
        #expect(tdxctl("stop", "--all", "web1", "--socket", manager.path).status == 2)
        #expect(tdxctl("stop", "WEB1", "--socket", manager.path).status == 2)
        #expect(stopped.names.withLock { $0 }.isEmpty)
        let two = [domain("a", "00aa0" + Self.ids[0].dropFirst(5)), domain("b", "00aa1" + Self.ids[0].dropFirst(5))]
        let pair = try ManagerStandIn(["List": { $0.reply(ManagerInterface.List.Reply(domains: two)) }])
        let both = tdxctl("stop", "00aa", "--socket", pair.path)
        #expect(both.status == 2 && both.error.contains("2 TDs have ids that begin with it"))
    }

    @Test func `show gives each TD its paragraph, or an array`() throws {
        let manager = try manager()
        let text = tdxctl("show", "web2", "web1", "--socket", manager.path).output
        #expect(text.hasPrefix("Name          web2\n") && text.contains("\n\nName          web1\n"))
        #expect(tdxctl("show", "web1", "--json=short", "--socket", manager.path).output.hasPrefix("{"))
        #expect(tdxctl("show", "web1", "web2", "--json=short", "--socket", manager.path).output.hasPrefix("[{"))
    }

    @Test func `wait ends when no TD of those is left in its state, fails without a proof, and keeps its timeout`()
        throws
    {
        let calls = Mutex(0)
        let draining = domain("web1", Self.ids[0], .draining)
        let manager = try ManagerStandIn([
            "List": { call in
                let count = calls.withLock { count in
                    count += 1
                    return count
                }
                call.reply(ManagerInterface.List.Reply(domains: count < 3 ? [draining] : []))
            },
            "GetCertificate": { call in
                let asked = try? call.parameters(as: ManagerInterface.GetCertificate.Parameters.self).certificate
                call.reply(
                    ManagerInterface.GetCertificate.Reply(certificate: .sample(holds: asked?.rawValue == draining.id)))
            },
        ])
        // Its certificate is asked for by its id: a TD of the same name may have come.
        #expect(tdxctl("wait", "web1", "--socket", manager.path) == Outcome(status: 0, output: "", error: ""))
        #expect(calls.withLock { $0 } == 3)
        let never = tdxctl("wait", "web2", "--socket", manager.path)
        #expect(never.status == 1 && never.error.contains("INCOMPLETE"))
        calls.withLock { $0 = -1_000_000 }
        #expect(tdxctl("wait", "web1", "--until", "stopped", "--socket", manager.path).status == 0)
        let late = tdxctl("wait", "web1", "--timeout", "1ms", "--socket", manager.path)
        #expect(late.status == 75 && late.error.contains("not proven yet: web1 (draining)"))
    }

    @Test func `an unknown command names the nearest one`() {
        #expect(tdxctl("lst").error == "Error: unknown command “lst”; did you mean “tdxctl list”?\n")
        #expect(tdxctl("--socket", "/nowhere", "certificate", "shw").error.contains("“tdxctl certificate show”"))
        #expect(tdxctl("help", "lst").status == 2)
        #expect(tdxctl("frobnicate-all").error.contains("“tdxctl help” lists the commands"))
        #expect(tdxctl("help", "list").status == 0 && tdxctl("help").status == 0)
        for shell in ["bash", "zsh", "fish"] {
            let script = tdxctl("--generate-completion-script", shell)
            #expect(script.status == 0 && script.output.contains("certificate"))
        }
    }

    @Test func `with JSON wrong usage is JSON, too`() {
        for arguments in [["-j", "lst"], ["stop", "--json=short"], ["create", "web1", "--memory", "x", "-j"]] {
            let outcome = tdxctl(arguments)
            #expect(outcome.status == 2 && outcome.output.isEmpty)
            #expect(outcome.error.hasPrefix(#"{"error":"usage","#), "\(outcome.error)")
        }
        #expect(tdxctl("stop", "--json=off").error.hasPrefix("Error:"))
    }

    @Test(arguments: [
        (["a10", "a2", "a1"], ["a1", "a2", "a10"]), (["b", "a"], ["a", "b"]), (["a01", "a1"], ["a01", "a1"]),
        (["a1b", "a1"], ["a1", "a1b"]), (["n99999999999999999999999", "n1e"], ["n1e", "n99999999999999999999999"]),
    ])
    func `numbers in names are ordered as numbers`(names: [String], order: [String]) {
        #expect(names.sorted(by: precedesNaturally) == order)
    }
}
