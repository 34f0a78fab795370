"""A local Google Cloud: the REST APIs that gcloud and Terraform call, for one project.

It keeps what it is given, and refuses what Google refuses, with Google's status and text.
"""
