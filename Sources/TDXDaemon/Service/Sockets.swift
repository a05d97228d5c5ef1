internal import Glibc
internal import LinuxSystem
internal import ServiceSupport
internal import SystemPackage

/// Where clients connect: sockets that systemd passes, or one of the daemon's own.
enum Sockets {
    /// What systemd passed.
    struct Passed {
        /// Every listening Unix stream socket, whatever its name.
        var sockets: [RetainedDescriptor] = []
        /// What the former tdxd had stored; key: the TD's id.
        var backing: [String: Backing] = [:]
    }

    /// Takes what was passed; what is of no use is closed.
    static func passed() throws(StartFailure) -> Passed {
        do throws(LinuxError) {
            var given = try ListenSockets.takeFromEnvironment()
            var found = Passed(backing: try DescriptorStore.takeBack(&given))
            for name in given.names {
                guard let descriptor = given.take(named: name) else { continue }
                guard try ListenSockets.isListeningUnixStream(descriptor) else { continue }
                found.sockets.append(RetainedDescriptor(descriptor))
            }
            return found
        } catch {
            throw StartFailure("what systemd passed cannot be used: \(error)")
        }
    }

    /// Listens at `path`. A socket without a server is replaced.
    static func own(at path: String, mode: UInt32) throws(StartFailure) -> OwnedDescriptor {
        if let end = path.lastIndex(of: "/"), end != path.startIndex {
            do throws(LinuxError) { try DirectoryTree.make(String(path[..<end]), mode: 0o755) } catch {
                throw StartFailure("the directory of the socket cannot be made: \(error)")
            }
        }
        // As with the lock: a child of a killed tdxd may answer for it a moment longer.
        let deadline = MonotonicInstant.now + RuntimeLock.patience
        while true {
            do throws(LinuxError) {
                return try UnixSocket.listen(at: path, mode: mode)
            } catch {
                guard error.errno == .addressInUse, MonotonicInstant.now < deadline else { throw refusal(error, path) }
            }
            usleep(10_000)
        }
    }

    private static func refusal(_ error: LinuxError, _ path: String) -> StartFailure {
        switch error.errno {
        case .addressInUse: StartFailure("another program already serves \(path)")
        case .fileExists: StartFailure("\(path) exists and is not a socket")
        default: StartFailure("\(path) cannot be listened on: \(error)")
        }
    }
}
