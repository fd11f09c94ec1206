"""Which version of a service's model a call goes to: the policy that users write, the choice by it, and when a new version gets more."""
