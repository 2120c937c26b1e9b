"""A Django project as the tests of szal.contrib.django have it served: in processes of its own."""
