import ControlInterface
import LinuxSystem
import Varlink

/// What must be so whenever tdxd has come back and nobody asks it for anything: what clients were told, the registry, the
/// holders' processes and directories, key ids and maps agree.
struct KillInvariants {
    let host: PrivateHost
    let clients: [LoadClient]

    /// Waits until everything that the former tdxd left half done is settled, and looks.
    /// - Returns: what is not so; empty when all is well. What clients did not know is known to them then.
    func settle() throws -> [String] {
        var flaws: [String] = []
        // What is being finished takes its time; what stays wrong is wrong.
        _ = try eventually(within: 60) {
            flaws = try look()
            return flaws.isEmpty
        }
        guard flaws.isEmpty else { return flaws }
        return try learn()
    }

    private func look() throws -> [String] {
        var flaws: [String] = []
        func check(_ holds: Bool, _ text: @autoclosure () -> String) { if !holds { flaws.append(text()) } }

        let all = try host.list()
        let keys: ManagerInterface.GetKeys.Reply = try host.client().call(ManagerInterface.GetKeys.method)
        let certificates: ManagerInterface.ListCertificates.Reply = try host.client().call(
            ManagerInterface.ListCertificates.method)

        let domains = all.filter { !isUnproven($0, certificates.certificates) }
        for domain in domains {
            check(domain.state == .runnable, "\(domain.name) is \(domain.state): \(domain.reason ?? "no reason")")
            check(domain.reason == nil, "\(domain.name): \(domain.reason ?? "")")
            check(
                domain.privateBytes + domain.sharedBytes == domain.memoryBytes && domain.convertingBytes == 0,
                "\(domain.name) has \(domain.privateBytes) private, \(domain.sharedBytes) shared, \(domain.convertingBytes) converting"
            )
        }
        // The registry against the processes and directories.
        check(
            domains.map(\.holderPID).sorted() == host.holders,
            "holders \(host.holders), in the registry \(domains.map(\.holderPID))")
        check(
            Set(domains.map(\.id)) == Set(host.holderDirectories),
            "directories \(host.holderDirectories), in the registry \(domains.map(\.id))")
        // The ledger.
        check(
            Set(keys.keys.map(\.id)) == Set(domains.map(\.id)) && keys.keys.count == domains.count,
            "key ids of \(keys.keys.map { "\($0.id) (\($0.use))" }), TDs \(domains.map(\.id))")
        check(keys.keys.allSatisfy { $0.use == .inUse }, "key ids \(keys.keys.map(\.use))")
        check(Set(domains.map(\.keyID)).count == domains.count, "two TDs have one key id: \(domains.map(\.keyID))")
        check(
            keys.free == keys.capacity.map { $0 - domains.count },
            "\(keys.free as Any) of \(keys.capacity as Any) key ids are free")
        check(domains.isEmpty ? host.backingDescriptors == 0 : true, "descriptors of guest memory without a TD")

        // What clients were told.
        for client in clients {
            let belief = client.belief
            let domain = domains.first { $0.name == client.name }
            switch (belief.id, belief.pending) {
            case (nil, .create): break
            case (nil, _): check(domain == nil, "\(client.name) is there, and its end was proven")
            case (let id?, .stop):
                if all.contains(where: { $0.id == id && isUnproven($0, certificates.certificates) }) {
                    break
                } else if let domain {
                    check(domain.id == id, "\(client.name) is another one")
                } else {
                    check(
                        certificates.certificates.contains { $0.id == id && $0.complete },
                        "\(client.name) was ended without a complete certificate")
                }
            case (let id?, _):
                check(domain?.id == id, "\(client.name) is lost: \(belief)")
                check(domain?.holderPID == belief.holderPID, "\(client.name) has another holder")
                check(domain?.mrtd == belief.mrtd, "\(client.name) has another measurement")
            }
        }
        return flaws
    }

    /// A TD whose end was asked for and went on without any tdxd: where not every process can be looked into, that its memory
    /// is gone is not proven, and it is shown until somebody takes note.
    private func isUnproven(_ domain: TrustDomain, _ certificates: [CertificateSummary]) -> Bool {
        guard domain.state == .failed, domain.reason?.hasSuffix("not proven: residency_zero") == true else {
            return false
        }
        guard let belief = clients.first(where: { $0.name == domain.name })?.belief, belief.id == domain.id else {
            return false
        }
        return belief.pending == .stop && certificates.contains { $0.id == domain.id && !$0.complete }
    }

    /// Compares the maps with what clients were told, and tells clients what came of calls that had no answer.
    private func learn() throws -> [String] {
        var flaws: [String] = []
        let domains = try host.list()
        for client in clients {
            var belief = client.belief
            if let failed = domains.first(where: { $0.name == client.name }), failed.state == .failed {
                _ = try host.stop(client.name)
                client.belief = LoadClient.Belief()
                continue
            }
            guard let domain = domains.first(where: { $0.name == client.name }) else {
                client.belief = LoadClient.Belief()
                continue
            }
            let map: ManagerInterface.Map.Reply = try host.client().call(
                ManagerInterface.Map.method, ManagerInterface.Show.Parameters(name: client.name))
            let found = Self.sharedBlocks(map.runs)
            guard let found else {
                flaws.append("\(client.name): a block is neither private nor shared as a whole: \(map.runs)")
                continue
            }
            if case .convert(let range, let toShared)? = belief.pending {
                let applied = toShared ? belief.shared.union(range) : belief.shared.subtracting(range)
                // All of it or nothing of it.
                if found != belief.shared, found != applied {
                    flaws.append("\(client.name): half a conversion: \(found.sorted()), before \(belief)")
                }
            } else if belief.id != nil, found != belief.shared {
                flaws.append("\(client.name): shared \(found.sorted()), but \(belief)")
            } else if belief.id == nil, !found.isEmpty {
                flaws.append("\(client.name) is new and has shared memory: \(found.sorted())")
            }
            belief.id = domain.id
            belief.holderPID = domain.holderPID
            belief.mrtd = domain.mrtd
            belief.shared = found
            belief.pending = nil
            client.belief = belief
        }
        return flaws
    }

    /// Nil when a boundary between sides is inside a block, or memory is in transition.
    private static func sharedBlocks(_ runs: [MemoryRun]) -> Set<Int>? {
        var found: Set<Int> = []
        for run in runs {
            guard run.gpa % LoadClient.block == 0, run.bytes % LoadClient.block == 0 else { return nil }
            switch run.attribute {
            case .private: continue
            case .shared:
                found.formUnion(Int(run.gpa / LoadClient.block)..<Int((run.gpa + run.bytes) / LoadClient.block))
            default: return nil
            }
        }
        return found
    }
}
